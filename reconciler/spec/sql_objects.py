"""`sql_objects`: functions, tables and other objects of a database, declared by a file of CREATE statements."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.spec.credentials import find
from reconciler.spec.models import Resource
from reconciler.spec.source import Source, read_text

if TYPE_CHECKING:
    from reconciler.plan.lexis import Malformed
    from reconciler.plan.statements import Statement


class SqlObjects(Resource):
    """The objects that a file of CREATE statements says should be there."""

    on: str = Field(min_length=1, description="The connection whose database they belong to.", examples=["production"])
    file: str = Field(
        min_length=1,
        description="A file of CREATE statements, within the folder of the specs. Functions and procedures are created, and "
        "replaced where their definition is not what the database has. Tables, types, domains, indexes, views, triggers, "
        "sequences, schemas and extensions are created when absent, in the order of the file, and never altered. A name "
        "without a schema is one in `public`. Any other statement is an error.",
        examples=["sql/resume_helpers.sql"],
    )
    replace: bool = Field(
        False,
        description="true: a function of the same name that has other arguments, or another type of result, is dropped "
        "before the new one is created. Otherwise that is an error.",
    )


class ObjectsFile(NamedTuple):
    """The statements of a file, and where in it they stand."""

    source: Source
    statements: tuple[Statement, ...]

    def place(self, offset: int) -> Location:
        return self.source.place(offset).location()


def wrong_path(file: str) -> str | None:
    """Why a path cannot be that of such a file."""
    if PurePosixPath(file).is_absolute() or PureWindowsPath(file).is_absolute() or file.startswith("~"):
        return "the path is not relative to the folder of the specs"
    if ".." in PurePosixPath(file.replace("\\", "/")).parts:
        return "the path leads out of the folder of the specs"
    return None


def read_objects(base: Path, file: str, where: Location | str | None) -> ObjectsFile:
    """The file's statements; everything that is wrong with them is raised together."""
    from reconciler.plan.lexis import Malformed
    from reconciler.plan.statements import Statement, statements

    path = base / file
    if not path.resolve().is_relative_to(base.resolve()):
        raise ReconcilerError(
            f"{file} leads out of the folder of the specs", where=where, todo="put the file beside the specs"
        )
    if not path.is_file():
        raise ReconcilerError(
            f"there is no file {file}", where=where, why=f"it is looked for in {base}",
            todo="write it, or correct the path: it is relative to the folder of the specs",
        )  # fmt: skip
    source = read_text(path)
    if found := find(source.text):
        raise ReconcilerError(
            f"{file} holds {found}", where=where, why="its statements are reviewed and stand in every plan",
            todo="take it out, and replace the credential: it may have been read",
        )  # fmt: skip
    errors: list[ReconcilerError] = []
    right: list[Statement] = []
    try:
        for item in statements(source.text):
            if isinstance(item, Statement):
                right.append(item)
            else:
                errors.append(_error(source, item))
    except Malformed as error:
        errors.append(_error(source, error))
    if len(errors) > 1:
        raise SpecErrors(tuple(errors))
    if errors:
        raise errors[0]
    if not right:
        raise ReconcilerError(f"{file} holds no statement", where=where, todo="write the CREATE statements into it")
    return ObjectsFile(source, tuple(right))


def _error(source: Source, error: Malformed) -> ReconcilerError:
    return ReconcilerError(error.what, where=source.place(error.offset).location(), todo=error.todo)

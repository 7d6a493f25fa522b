"""`bucket_prefixes`: objects under a prefix and the rows that describe them, both ways."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from reconciler.plan.names import TableName
from reconciler.spec.collection import ColumnName, Condition, Limit, connection_and_table
from reconciler.spec.models import Resource, Strict
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.values import Number, Path, describe

FIELDS = ("name", "stem", "ext", "folder", "size", "mime", "etag", "created_at")
"""What a new row's template may say of its object."""
FORM_FIELDS = ("bucket", "name", "host")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_BUCKET = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)\.([^/]+)")
_DURATION = re.compile(r"([0-9]{1,6})\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def placeholders(text: str) -> list[str]:
    """The names in braces."""
    return _PLACEHOLDER.findall(text)


def pieces(text: str) -> list[tuple[bool, str]]:
    """The text cut into what stands there and what is in braces: (is a placeholder, text)."""
    cut = _PLACEHOLDER.split(text)
    return [(bool(n % 2), part) for n, part in enumerate(cut) if part or n % 2]


def seconds(text: str) -> int:
    """A duration such as 365d."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise PydanticCustomError("shape", "a duration is a number and s, m, h or d, such as 30d")
    return int(found[1]) * _SECONDS[found[2]]


def _duration(value: object) -> object:
    if isinstance(value, str):
        seconds(value)
    return value


def _text(value: object) -> object:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | Number():
            return str(value)
        case _:
            return value


Duration: TypeAlias = Annotated[str, BeforeValidator(_duration)]
Template: TypeAlias = Annotated[
    str | None, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
Values: TypeAlias = Annotated[dict[ColumnName, Template], Field(min_length=1)]


Measure: TypeAlias = Literal["size", "etag", "mime", "content_type", "created_at"]


class InsertRow(Strict):
    """A row for each object that no row names."""

    insert: Values = Field(
        description="Column → value; in it {name} {stem} {ext} {folder} {size} {mime} {etag} {created_at} are the object's. "
        "The column that names the object is filled by `form`."
    )


class SetRow(Strict):
    """Columns to set."""

    set: Values = Field(description="Column → value, the same for every such row.")


class CopyFrom(Strict):
    """The object is restored."""

    copy_from: str = Field(
        description="connection.bucket that has it under the same name.", examples=["backup.cms-images"]
    )


class Quarantine(Strict):
    """Objects are moved aside."""

    quarantine: Annotated[str, Field(min_length=1)] = Field(
        description="The prefix that they are moved under; what lies there is meant by no `match` any more."
    )


class SignedUrl(Strict):
    """A column that holds a signed URL of the row's object."""

    column: ColumnName = Field(description="The column.")
    expires_in: Duration = Field(description="How long a new URL is good for, such as 365d.")
    renew_within: Duration = Field("0s", description="A URL that expires within this is signed anew, such as 30d.")


def _shape(value: object) -> str:
    if isinstance(value, dict):
        return str(next(iter(cast("dict[str, object]", value)), "a mapping"))
    return _TAGS.get(type(value)) or describe(value)


_TAGS: dict[type, str] = {InsertRow: "insert", SetRow: "set", CopyFrom: "copy_from", Quarantine: "quarantine"}


def _by_shape(message: str) -> Discriminator:
    return Discriminator(_shape, custom_error_type="shape", custom_error_message=message)


OnMissingRow: TypeAlias = Annotated[
    Annotated[Literal["keep"], Tag("text")] | Annotated[InsertRow, Tag("insert")],
    _by_shape("on_missing_row is keep, or { insert: { column: value } }"),
]
OnMissingObject: TypeAlias = Annotated[
    Annotated[Literal["keep", "delete"], Tag("text")]
    | Annotated[SetRow, Tag("set")]
    | Annotated[CopyFrom, Tag("copy_from")],
    _by_shape("on_missing_object is keep or delete, { set: { column: value } } or { copy_from: connection.bucket }"),
]
OnExtraObject: TypeAlias = Annotated[
    Annotated[Literal["keep", "remove"], Tag("text")] | Annotated[Quarantine, Tag("quarantine")],
    _by_shape("on_extra_object is keep or remove, or { quarantine: prefix }"),
]


class BucketPrefix(Resource):
    """Objects under a prefix of a bucket, and the rows of a table that describe them."""

    bucket: str = Field(description="connection.bucket.", examples=["storage.cms-images"])
    prefix: str = Field("", description='Only objects whose names begin so; "" for the whole bucket.')
    match: Annotated[tuple[ColumnName, ...], Field(strict=False)] = Field(
        (),
        description="Which objects are meant, as in .gitignore: without a slash at any depth, with one from the prefix on; "
        "`!` excludes; the last that fits decides. Default: all.",
        examples=[["*.jpg", "*.png", "!thumbs/*"]],
    )
    table: str = Field(description="connection.table or connection.schema.table.", examples=["production.images"])
    where: Condition | None = Field(
        None,
        description="The scope: rows that this resource may change. An object lacks a row only if no row at all names it.",
    )
    column: ColumnName = Field(description="The column that names the object.")
    form: str = Field(
        "{name}", description="How a row spells an object: {bucket} and {name}.", examples=["{bucket}/{name}"]
    )
    wrong_forms: Annotated[tuple[ColumnName, ...], Field(strict=False)] = Field(
        (),
        description="Other spellings that are recognised and brought to `form`; {host} is any host.",
        examples=[["https://{host}/storage/v1/object/public/{bucket}/{name}"]],
    )
    move: bool = Field(
        False, description="true: where a row has a wrong form, the object is moved to where `form` reads the row's text, "
        "and the row stays.",
    )  # fmt: skip
    columns: dict[ColumnName, Measure] = Field(
        default_factory=dict[str, Measure],
        description="Columns that say something of the object: column → size, etag, mime (or content_type, the same) or created_at. "
        "Brought up to date where they differ.",
    )
    on_missing_row: OnMissingRow = Field("keep", description="What becomes of an object that no row names.")
    on_missing_object: OnMissingObject = Field(
        "keep", description="What becomes of a row in scope whose object is not there."
    )
    on_extra_object: OnExtraObject = Field(
        "keep",
        description="With on_missing_row: keep, what becomes of an object that no row names. remove goes through the storage's API and "
        "cannot be undone; quarantine moves it, which can.",
    )
    verify: Literal["rows", "bytes"] = Field(
        "rows", description="bytes: ask the storage for each object that a row claims whether its bytes are there."
    )
    signed_url: SignedUrl | None = Field(None, description="A column with a signed URL, kept valid.")
    stale: Condition | None = Field(
        None,
        description="Rows in scope that are counted as stale; nothing is done about them.",
        examples=["metadata_status <> 'ready'"],
    )
    max_delete: Limit = Field(
        0,
        description='How many rows, or objects, may be deleted at most: a number, or a share of the scope such as "5%".',
    )

    def place(self) -> tuple[str, str]:
        """The storage's connection and the bucket."""
        return bucket_of(self.bucket)

    def target(self) -> tuple[str, TableName]:
        """The connection and the table of the rows."""
        connection, table = connection_and_table(self.table)
        if table is None:
            raise ValueError(f"`{self.table}` lacks a table: write connection.table")
        return connection, table


def bucket_of(text: str) -> tuple[str, str]:
    """connection.bucket, taken apart."""
    found = _BUCKET.fullmatch(text)
    if not found:
        raise ValueError(f"`{text}` is no bucket: write connection.bucket")
    return found[1], found[2]


def report_bucket_prefix(it: BucketPrefix, at: Path, problems: Problems) -> None:
    """Note everything in the resource that contradicts itself."""
    for word, text in (("bucket", it.bucket), ("copy_from", _copied_from(it))):
        where = (*at, "on_missing_object", word) if word == "copy_from" else (*at, word)
        if text is not None and not _BUCKET.fullmatch(text):
            problems.add(f"`{text}` is no bucket", where, todo="write connection.bucket")
    for n, form in enumerate((it.form, *it.wrong_forms)):
        where = (*at, "wrong_forms", n - 1) if n else (*at, "form")
        unknown = [name for name in placeholders(form) if name not in (FORM_FIELDS if n else FORM_FIELDS[:2])]
        if unknown:
            known = "{bucket}, {name} and {host}" if n else "{bucket} and {name}"
            problems.add(f"`{{{unknown[0]}}}` means nothing in a form", where, todo=f"known are {known}")
        elif placeholders(form).count("name") != 1:
            problems.add(f"{dotted(where)} needs {{name}} once", where, todo='write "{bucket}/{name}" or the like')
        elif placeholders(form).count("host") > 1 or "host" in placeholders(form.partition("{name}")[2]):
            problems.add(
                f"{dotted(where)} takes {{host}} once, before {{name}}",
                where,
                todo='write "https://{host}/{bucket}/{name}"',
            )
        elif n and form == it.form:
            problems.add(f"{dotted(where)} is the form itself", where, todo="leave it out")
    if isinstance(it.on_missing_row, InsertRow):
        for column, text in it.on_missing_row.insert.items():
            where = (*at, "on_missing_row", "insert", column)
            if unknown := [name for name in placeholders(text or "") if name not in FIELDS]:
                problems.add(
                    f"`{{{unknown[0]}}}` is nothing that an object has", where, todo=f"known are {', '.join(FIELDS)}"
                )
            if column == it.column:
                problems.add(f"`{column}` is filled by `form`", where, key=True, todo="leave it out")
        if it.on_extra_object != "keep":
            todo = "leave one of them out"
            problems.add(
                "an object without a row cannot both get one and go", (*at, "on_extra_object"), key=True, todo=todo
            )
    if it.move and not it.wrong_forms:
        problems.add(
            "`move` needs `wrong_forms`",
            (*at, "move"),
            key=True,
            todo="say which spellings lead to objects that are to be moved",
        )
    if it.column in it.columns:
        problems.add(f"`{it.column}` names the object", (*at, "columns", it.column), key=True, todo="leave it out")
    if it.signed_url and it.signed_url.column in (it.column, *it.columns):
        name = it.signed_url.column
        other = "names the object" if name == it.column else "is brought up to date with the object by `columns`"
        problems.add(f"`{name}` {other}", (*at, "signed_url", "column"), todo="name another column")
    try:
        it.target()
    except ValueError as error:
        problems.add(str(error), (*at, "table"))


def _copied_from(it: BucketPrefix) -> str | None:
    return it.on_missing_object.copy_from if isinstance(it.on_missing_object, CopyFrom) else None

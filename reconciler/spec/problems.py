"""The errors found in one reading of the specs, each at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.spec.credentials import MASK, key_may_be_shown, mask
from reconciler.spec.nodes import Node, place_of, place_of_key
from reconciler.spec.source import Place
from reconciler.spec.values import Path

_MOST = 50


class SpecWarning(ReconcilerError):
    """Something that is allowed and probably not meant."""

    def render(self) -> str:
        return "warning" + super().render().removeprefix("error")


@dataclass(frozen=True)
class _Problem:
    """An error or warning whose place is not yet rendered: the rest of its line may hold a secret to be found."""

    kind: type[ReconcilerError]
    what: str
    where: Place | str | None
    why: str | None
    todo: str | None
    details: tuple[str, ...] = ()

    def error(self) -> ReconcilerError:
        return self.kind(
            mask(self.what),
            where=self.where.location() if isinstance(self.where, Place) else self.where,
            why=self.why and mask(self.why),
            todo=self.todo and mask(self.todo),
            details=tuple(map(mask, self.details)),
        )


class Problems:
    """Collects errors; of several about one value only the first is kept."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._errors: list[_Problem | ReconcilerError] = []
        self._warnings: list[_Problem] = []
        self._claimed: set[Path] = set()

    def add(
        self,
        what: str,
        path: Path | None = None,
        *,
        place: Place | None = None,
        key: bool = False,
        why: str | None = None,
        todo: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        """Note an error about the value at `path` (or its key), placed there unless a place is given."""
        if path is not None:
            if path in self._claimed:
                return
            self._claimed.add(path)
            for length in range(3, len(path) + 1):
                if not key_may_be_shown(path[:length]):
                    what = what.replace(str(path[length - 1]), MASK)
        where = place or self._where(path or (), key=key)
        self._errors.append(_Problem(ReconcilerError, what, where, why, todo, tuple(details)))

    def warn(self, what: str, path: Path, *, place: Place | None = None, why: str | None = None, todo: str) -> None:
        """Note something allowed that a user should know."""
        self._warnings.append(_Problem(SpecWarning, what, place or self._where(path), why, todo))

    def take(self, error: ReconcilerError) -> None:
        """Note an error that is complete already."""
        self._errors.append(error)

    @property
    def warnings(self) -> tuple[ReconcilerError, ...]:
        return tuple(sorted((warning.error() for warning in self._warnings), key=_order))

    def claim(self, *paths: Path) -> None:
        """Say nothing more about these values."""
        self._claimed.update(paths)

    def concerns(self, path: Path) -> bool:
        """Whether something within the value at `path` is wrong."""
        return any(claimed[: len(path)] == path for claimed in self._claimed)

    def where(self, path: Path) -> Location | None:
        """The place of a value in its file."""
        where = self._where(path)
        return where.location() if isinstance(where, Place) else None

    def _where(self, path: Path, *, key: bool = False) -> Place | str | None:
        """How an error names the place of a value: in the file, or within a plan's copy of the spec."""
        if self.root is None:
            return None
        place = place_of_key(self.root, path) if key else place_of(self.root, path)
        return place or (f"the plan's spec: {mask(dotted(path))}" if path else None)

    def raise_any(self) -> None:
        """End the reading if anything is wrong: one error as itself, several together, in the order of the files."""
        found = (error if isinstance(error, ReconcilerError) else error.error() for error in self._errors)
        errors = sorted(found, key=_order)
        if len(errors) > _MOST:
            more = ReconcilerError(f"{len(errors) - _MOST} more errors follow", todo="mend these first")
            errors = [*errors[:_MOST], more]
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise SpecErrors(tuple(errors))


def dotted(path: Path) -> str:
    """A path as people write it: collections.publications.key[0]."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def suggest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant."""
    plain = _loosely(word)
    for candidate in known:
        if _loosely(candidate) == plain:
            return candidate
    return next(iter(get_close_matches(word.lower(), known, 1, 0.6)), None)


def did_you_mean(word: str, known: Sequence[str], otherwise: str) -> str:
    """A suggestion where one is near, else the general advice."""
    meant = suggest(word, known)
    return f"did you mean `{meant}`?" if meant else otherwise


def one_of(words: Sequence[str], last: str = "or") -> str:
    """`a, b or c`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _loosely(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "")


def _order(error: ReconcilerError) -> tuple[str, int, int]:
    match error.where:
        case Location(file=file, line=line, column=column):
            return file, line, column
        case _:
            return "", 0, 0

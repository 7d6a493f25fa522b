"""What a script does for one step: stage its changes, read and judge what is there, write, settle.

All staged changes stand in one temporary table, `reconciler_changes`: their images as JSON objects of text forms, so
that `found @> before` says "every column of it stands as planned". Every statement is set-based.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.plan.file import Plan
from reconciler.plan.step import Change, Step, Verb
from reconciler.views.sql_words import array, block, column_type, identifier, json_literal, literal, regclass, relation

CHANGES = "pg_temp.reconciler_changes"
ROWS_A_STATEMENT = 1000
BYTES_A_STATEMENT = 4 << 20
ROW_VERBS = (Verb.INSERT, Verb.UPDATE, Verb.DELETE)


@dataclass(frozen=True)
class Staged:
    """A step of row changes under its number in the script."""

    number: int
    step: Step
    written: dict[str, int]
    """Columns of `after`, each with the number of changes that hold it."""
    read: tuple[str, ...]
    """Columns of any image."""

    @property
    def table(self) -> str:
        return relation(self.step.target)

    @property
    def mine(self) -> str:
        """The step's rows among the staged ones."""
        return f"c.step = {self.number}"

    @property
    def to_do(self) -> str:
        return f"{self.mine} AND c.state = 'todo'"

    @property
    def joined(self) -> str:
        """A row of the table, `t`, is the one that a staged change, `c`, names."""
        return " AND ".join(
            f"t.{identifier(name)} = (c.key->>{at})::{column_type(self.step, name)}"
            if name in self.step.columns
            else f"t.{identifier(name)}::text = c.key->>{at}"
            for at, name in enumerate(self.step.key)
        )

    def image(self, columns: Iterable[str]) -> str:
        """Columns of a row as the plan writes them."""
        names = list(columns)
        values = array(f"t.{identifier(name)}::text" for name in names)
        return f"jsonb_object({array(map(literal, names))}, {values})" if names else "'{}'::jsonb"

    def value(self, column: str) -> str:
        return f"(c.after->>{literal(column)})::{column_type(self.step, column)}"


def survey(plan: Plan, number: int, step: Step) -> Staged:
    """Read through a step's changes for the columns they hold."""
    written: dict[str, int] = {}
    read: dict[str, None] = {}
    for change in plan.changes(step):
        for name in change.after or ():
            written[name] = written.get(name, 0) + 1
        read |= dict.fromkeys([*(change.before or ()), *(change.after or ())])
    return Staged(number, step, dict(sorted(written.items())), tuple(sorted(read)))


def stage(plan: Plan, staged: Staged) -> Iterator[str]:
    """The step's changes as literals, many rows a statement."""
    rows = enumerate(plan.changes(staged.step), 1)
    row = next(rows, None)
    while row is not None:
        yield f"INSERT INTO {CHANGES} (step, n, key, before, after) VALUES\n"
        room = BYTES_A_STATEMENT
        comma = ""
        for _ in range(ROWS_A_STATEMENT):
            text = _row(staged.number, *row)
            yield comma + text
            comma, room = ",\n", room - len(text)
            row = next(rows, None)
            if row is None or room < 0:
                break
        yield ";\n"


def _row(number: int, at: int, change: Change) -> str:
    images = (json_literal(list(change.key)), json_literal(change.before), json_literal(change.after))
    return f"  ({number}, {at}, {', '.join(images)})"


def read(staged: Staged, *, lock: bool) -> str:
    """Put what stands in the table beside what was planned."""
    order = " ORDER BY c.n FOR UPDATE OF t" if lock else ""
    return (
        f"UPDATE {CHANGES} c SET found = seen.found FROM (\n"
        f"  SELECT c.n, {staged.image(staged.read)} AS found\n"
        f"  FROM {CHANGES} c JOIN {staged.table} t ON {staged.joined} WHERE {staged.mine}{order}\n"
        f") seen WHERE {staged.mine} AND c.n = seen.n;"
    )


def judge(staged: Staged) -> str:
    """To do, already so, or drift."""
    match staged.step.verb:
        case Verb.INSERT:
            cases = "WHEN c.found IS NULL THEN 'todo' WHEN c.found @> c.after THEN 'already'"
        case Verb.UPDATE:
            cases = "WHEN c.found @> c.before THEN 'todo' WHEN c.found @> c.after THEN 'already'"
        case _:
            cases = "WHEN c.found IS NULL THEN 'already' WHEN c.found @> c.before THEN 'todo'"
    return f"UPDATE {CHANGES} c SET state = CASE {cases} ELSE 'drift' END WHERE {staged.mine};"


def write(node: Sequence[Staged]) -> str:
    """The change itself; steps that only hold together go in one statement."""
    *before, last = [_write(staged) for staged in node]
    if not before:
        return f"{last};"
    parts = ",\n".join(f"step_{staged.number} AS (\n{text}\n)" for staged, text in zip(node, before, strict=False))
    return f"WITH {parts}\n{last};"


def _write(staged: Staged) -> str:
    match staged.step.verb:
        case Verb.INSERT:
            names = ", ".join(map(identifier, staged.written))
            values = ", ".join(map(staged.value, staged.written))
            return (
                f"INSERT INTO {staged.table} ({names}) OVERRIDING SYSTEM VALUE\n"
                f"SELECT {values}\nFROM {CHANGES} c WHERE {staged.to_do} ORDER BY c.n"
            )
        case Verb.UPDATE:
            return _update(staged, list(staged.written), "")
        case Verb.DELETE:
            return f"DELETE FROM {staged.table} t USING {CHANGES} c WHERE {staged.to_do} AND {staged.joined}"
        case verb:
            raise AssertionError(f"{verb} is not a verb of rows")


def settle(staged: Staged) -> str | None:
    """Write once more what triggers changed, and only where they did: an update fires triggers of its own."""
    columns = [name for name in staged.written if name not in staged.step.key]
    if staged.step.verb is Verb.DELETE or not columns:
        return None
    differs = f"NOT {staged.image(staged.written)} @> c.after"
    update = _update(staged, columns, f" AND {differs}")
    rows = f"{CHANGES} c JOIN {staged.table} t ON {staged.joined}"
    return block(f"IF EXISTS (SELECT FROM {rows} WHERE {staged.to_do} AND {differs}) THEN\n{update};\nEND IF;")


def _update(staged: Staged, columns: Sequence[str], where: str) -> str:
    sets = ", ".join(f"{identifier(name)} = {_new_value(staged, name)}" for name in columns)
    return f"UPDATE {staged.table} t SET {sets}\nFROM {CHANGES} c WHERE {staged.to_do} AND {staged.joined}{where}"


def _new_value(staged: Staged, column: str) -> str:
    """Changes of one step need not all hold the same columns."""
    value = staged.value(column)
    if staged.written[column] == staged.step.count:
        return value
    return f"CASE WHEN c.after ? {literal(column)} THEN {value} ELSE t.{identifier(column)} END"


def raise_sequence(change: Change, step: Step) -> str:
    """A sequence goes up or stays: it is never lowered."""
    target = change.key[0] if change.key else step.target
    name = relation(target)
    value = int(str(next(iter((change.after or {}).values()))))
    return f"SELECT setval({regclass(target)}, {value}) AS raised FROM {name} WHERE last_value < {value};"

"""Differences become steps: their lines are written by PostgreSQL itself and pass through here as bytes.

In: what the differ left in the temporary tables. Out: steps with edges, hazards, and for each step a way to stream its change lines.
Invariant: a value is never parsed into a Python number, date or document on its way into the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

from reconciler.plan.file import Lines, Planned, change_prefix, dumps, planned
from reconciler.plan.order import Edge
from reconciler.plan.step import Change, Hazard, Step, Verb
from reconciler.systems.postgres.catalog import Column
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import (
    Duplicates,
    OnChanged,
    Pair,
    full_name,
    hmac_sql,
    json_key,
    json_object,
    json_text,
    on_keys,
    order_by_key,
    relation,
)
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

COPY_LINES: LiteralString = "COPY ({}) TO STDOUT (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
"""JSON escapes control characters, so these never occur in a line and nothing is quoted: the bytes are the line."""


@dataclass
class Emitted:
    steps: list[Planned] = field(default_factory=list[Planned])
    must: list[Edge] = field(default_factory=list[Edge])
    rather: list[Edge] = field(default_factory=list[Edge])
    hazards: list[Hazard] = field(default_factory=list[Hazard])


def emit_rows(session: Session, found: Found) -> list[Planned]:
    """The steps of one intent."""
    intent = found.intent
    steps: list[Planned] = []
    notes = tuple(found.notes)
    duplicates = intent.finds if isinstance(intent.finds, Duplicates) else None
    if found.missing:
        columns = {c.name: _type(found, c) for c in (*found.written, *found.defaults)}
        steps.append(_step(session, found, Verb.INSERT, columns, found.missing, _insert_lines(found), notes))
    if found.changed or found.let_go:
        summary, touched = _column_summary(session, found) if found.changed else ("", [])
        let_go = _let_go(session, found) if found.let_go else []
        decided = [intent.target.columns[intent.newer]] if intent.newer else []
        columns = {c.name: _type(found, c) for c in (*_key_columns(found), *touched, *let_go, *decided)}
        update_notes = (f"columns: {summary}",) if summary else ()
        lines = _update_lines(found)
        steps.append(
            _step(session, found, Verb.UPDATE, columns, found.changed + found.let_go, lines, (*update_notes, *notes))
        )
    if found.extra:
        whole = [c for c in intent.target.columns.values() if not c.generated and c.name not in intent.secret]
        columns = {c.name: _type(found, c) for c in whole}
        losing = _step(
            session, found, Verb.DELETE, columns, found.extra, _delete_lines(found), notes if duplicates else ()
        )
        if duplicates:
            archive = full_name(duplicates.archive) if duplicates.archive else ""
            losing = replace(
                losing,
                step=replace(losing.step, unique=duplicates.key, where=duplicates.where_text or "", archive=archive),
            )
        steps.append(losing)
    return steps


def _step(
    session: Session,
    found: Found,
    verb: Verb,
    columns: dict[str, str],
    count: int,
    query: Composable,
    notes: tuple[str, ...],
) -> Planned:
    intent = found.intent
    step = Step(
        id=intent.step_id(verb.value),
        connection=intent.connection,
        target=full_name(intent.target.name),
        verb=verb,
        key=intent.key,
        columns=columns,
        count=count,
        notes=notes,
        triggers=intent.triggers,
    )
    return Planned(step, stream(session, query))


def stream(session: Session, query: Composable) -> Lines:
    def lines(sink: Callable[[bytes], object]) -> None:
        for block in session.copy_out(q(COPY_LINES, query)):
            sink(block)

    return lines


def _type(found: Found, column: Column) -> str:
    return f"{column.type} sensitive" if column.name in found.intent.sensitive else column.type


def _key_columns(found: Found) -> list[Column]:
    return [found.intent.target.columns[name] for name in found.intent.key]


def _types(found: Found) -> dict[str, str]:
    """The types of values that stand in lines as they are; of others there are digests."""
    columns = found.intent.target.columns.values()
    return {column.name: column.type for column in columns if column.name not in found.intent.sensitive}


def _key(found: Found, expressions: Sequence[Composable]) -> Composable:
    return json_key(expressions, [_types(found).get(name, "") for name in found.intent.key])


def _image(found: Found, pairs: Sequence[Pair]) -> Composable:
    return json_object(pairs, _types(found))


def _value(found: Found, name: str, expression: Composable) -> Composable:
    return hmac_sql(expression) if name in found.intent.sensitive else expression


def _line(
    found: Found, verb: Verb, key: Composable, before: Composable, after: Composable, reason: Composable
) -> Composable:
    return q(
        "{} || {} || ',\"before\":' || {} || ',\"after\":' || {} || ',\"reason\":' || {} || '}}'",
        lit(change_prefix(found.intent.step_id(verb.value))),
        key,
        before,
        after,
        reason,
    )


def _keys(prefix: LiteralString, found: Found) -> list[Composable]:
    return [ident(prefix, name) for name in found.keys]


def _insert_lines(found: Found) -> Composable:
    pairs = [(c.name, _value(found, c.name, ident("s", c.name)), None) for c in found.written]
    pairs += [
        (c.name, _value(found, c.name, q("{}::{}", raw(c.default or ""), raw(c.type))), None) for c in found.defaults
    ]
    keys = _keys("d", found)
    line = _line(
        found,
        Verb.INSERT,
        _key(found, keys),
        raw("'null'"),
        _image(found, pairs),
        q("coalesce(to_json(d.reason)::text, {})", lit(dumps("missing"))),
    )
    return q(
        "SELECT {} FROM {} d JOIN {} s ON {} WHERE d.kind = 'm' ORDER BY {}", line, found.intent.temp("d"), found.intent.temp("s"),
        on_keys("d", found.keys, "s", found.intent.key), order_by_key(keys)
    )  # fmt: skip


_REASON = {
    OnChanged.UPDATE: "differs",
    OnChanged.FILL: "null in target",
    OnChanged.NEWER: "older than source",
    OnChanged.KEEP: "differs",
}


def _update_lines(found: Found) -> Composable:
    intent = found.intent
    keys = _keys("d", found)
    position = {c.name: raw(f"d.m[{n}]") for n, c in enumerate(found.compared, 1)}
    before: list[Pair] = [
        (c.name, _value(found, c.name, ident("t", c.name)), position[c.name])
        for c in found.compared
        if c.name not in intent.secret
    ]
    after: list[Pair] = [(c.name, _value(found, c.name, ident("s", c.name)), position[c.name]) for c in found.compared]
    if intent.newer:
        before = [pair for pair in before if pair[0] != intent.newer]
        before.append((intent.newer, _value(found, intent.newer, ident("t", intent.newer)), None))
    reason = q("coalesce(to_json(d.reason)::text, {})", lit(dumps(_REASON[intent.on_changed])))
    line = _line(
        found,
        Verb.UPDATE,
        _key(found, keys),
        _image(found, before),
        _image(found, after),
        reason,
    )
    query = q(
        "SELECT {line} AS line, {order} FROM {d} d JOIN {s} s ON {on} JOIN {t} t ON {same} WHERE d.kind = 'c'", line=line,
        order=_order_columns(keys), d=intent.temp("d"), s=intent.temp("s"), on=on_keys("d", found.keys, "s", intent.key),
        t=relation(intent.target.name), same=on_keys("d", found.keys, "t", intent.key)
    )  # fmt: skip
    if found.let_go:
        query = q("{} UNION ALL {}", query, _nulled_lines(found))
    return q("SELECT line FROM ({}) q ORDER BY {}, line", query, join([ident(f"o{n}") for n in range(len(keys))]))


def _order_columns(keys: Sequence[Composable]) -> Composable:
    return join([q('{}::text COLLATE "C" AS {}', key, ident(f"o{n}")) for n, key in enumerate(keys)])


def _nulled_lines(found: Found) -> Composable:
    intent = found.intent
    keys = _keys("d", found)
    of = {key.name: key.set_columns for key in intent.target.references if key.on_delete == "n"}
    names = sorted({column for columns in of.values() for column in columns})
    when = {c: q("d.reason IN ({})", join([lit(k) for k, columns in of.items() if c in columns])) for c in names}
    before: list[Pair] = [(c, _value(found, c, ident("t", c)), when[c]) for c in names]
    after: list[Pair] = [(c, raw("null"), when[c]) for c in names]
    line = _line(found, Verb.UPDATE, _key(found, keys), _image(found, before), _image(found, after),
                 raw("to_json('set null by ' || d.reason)::text"))  # fmt: skip
    return q("SELECT {}, {} FROM {} d JOIN {} t ON {} WHERE d.kind = 'n'", line, _order_columns(keys), intent.temp("d"),
             relation(intent.target.name), on_keys("d", found.keys, "t", intent.key))  # fmt: skip


def _let_go(session: Session, found: Found) -> list[Column]:
    names = {
        row[0] for row in session.rows(q("SELECT DISTINCT reason FROM {} WHERE kind = 'n'", found.intent.temp("d")))
    }
    columns = {c for key in found.intent.target.references if key.name in names for c in key.set_columns}
    return [found.intent.target.columns[name] for name in sorted(columns)]


def _delete_lines(found: Found) -> Composable:
    intent = found.intent
    keys = _keys("d", found)
    image = _image(
        found,
        [
            (c.name, _value(found, c.name, ident("t", c.name)), None)
            for c in intent.target.columns.values()
            if not c.generated and c.name not in intent.secret
        ],
    )
    reason = raw("to_json(coalesce(d.reason, 'extra'))::text")
    ranked = raw("")
    if isinstance(intent.finds, Duplicates):
        ranked = q("JOIN {} r ON {}", intent.temp("r"), on_keys("r", found.keys, "d", found.keys))
        survivor = _key(found, [ident("r", "v" + key[1:]) for key in found.keys])
        kept = q("'{{\"key\":' || {} || ',\"has\":' || {} || ',\"over\":' || {} || '}}'", survivor, json_text(raw("r.theirs")),
                 json_text(raw("r.ours")))  # fmt: skip
        reason = q("{} || ',\"kept\":' || {}", reason, kept)
    line = _line(found, Verb.DELETE, _key(found, keys), image, raw("'null'"), reason)
    return q("SELECT {} FROM {} d JOIN {} t ON {} {} WHERE d.kind = 'x' ORDER BY {}", line, intent.temp("d"),
             intent.live, on_keys("d", found.keys, "t", intent.key), ranked, order_by_key(keys))  # fmt: skip


def _column_summary(session: Session, found: Found) -> tuple[str, list[Column]]:
    """`data (2), doc: null → value (72)` and the columns that change at all."""
    intent = found.intent
    counts: list[Composable] = []
    for n, column in enumerate(found.compared, 1):
        m, s, t = raw(f"d.m[{n}]"), ident("s", column.name), ident("t", column.name)
        counts += [q("count(*) FILTER (WHERE {})", m), q("count(*) FILTER (WHERE {} AND {} IS NULL)", m, t),
                   q("count(*) FILTER (WHERE {} AND {} IS NULL)", m, s)]  # fmt: skip
    row = session.one(
        q("SELECT {} FROM {} d JOIN {} s ON {} JOIN {} t ON {} WHERE d.kind = 'c'", join(counts), intent.temp("d"), intent.temp("s"),
          on_keys("d", found.keys, "s", intent.key), relation(intent.target.name), on_keys("d", found.keys, "t", intent.key))
    )  # fmt: skip
    words: list[tuple[int, str]] = []
    touched: list[Column] = []
    for n, column in enumerate(found.compared):
        total, from_null, to_null = row[3 * n : 3 * n + 3]
        if not total:
            continue
        touched.append(column)
        how = ": null → value" if from_null == total else ": value → null" if to_null == total else ""
        words.append((-total, f"{column.name}{how} ({total})"))
    return ", ".join(word for _, word in sorted(words)), touched


def emit_sequences(session: Session, founds: Sequence[Found]) -> list[tuple[Planned, str]]:
    """A setval for each sequence that would hand out an id that this plan inserts; each with the insert it follows."""
    highest: dict[str, tuple[int, Found]] = {}
    for found in founds:
        for column, sequence in found.intent.target.sequences.items():
            if not found.missing or column not in {c.name for c in found.written}:
                continue
            top = session.value(
                q("SELECT max(s.{c}) FROM {d} d JOIN {s} s ON {on} WHERE d.kind = 'm'", c=ident(column), d=found.intent.temp("d"),
                  s=found.intent.temp("s"), on=on_keys("d", found.keys, "s", found.intent.key))
            )  # fmt: skip
            if top is not None and (sequence not in highest or highest[sequence][0] < top):
                highest[sequence] = (int(top), found)
    result: list[tuple[Planned, str]] = []
    for sequence, (top, found) in sorted(highest.items()):
        last, called = session.one(q("SELECT last_value, is_called FROM {}", raw(sequence)))
        if (last if called else last - 1) >= top:
            continue
        step_id = f"{found.intent.address}[{sequence}]/setval"
        step = Step(
            step_id, found.intent.connection, sequence, Verb.SETVAL, key=("sequence",), columns={"last_value": "bigint"}
        )
        before = {"last_value": str(last) if called else None}
        change = Change(step_id, (sequence,), before, {"last_value": str(top)}, "behind the inserted ids")
        result.append((planned(step, [change]), f"{found.intent.label}/insert"))
    return result

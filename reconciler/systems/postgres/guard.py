"""Every change is judged under lock before anything is written: to do, already so, or drift.

In: staged steps. Out: their counts, rows that are already so marked; or one `Drift` naming each thing, planned beside actual.
Invariant: after this has passed, no other session can change a row that this plan is about to change.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.plan.errors import Drift, ReconcilerError
from reconciler.plan.step import Step, Verb
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.staging import Staged

NAMED = 20
LOCK = (0x7265636F, 0x6E63696C)


def take_turn(session: Session) -> None:
    """One apply at a time on a database; the lock ends with the transaction, however that ends."""
    if session.value(q("SELECT pg_try_advisory_xact_lock({}, {})", *(lit(part) for part in LOCK))):
        return
    holders = session.rows(
        q("SELECT a.application_name, a.pid, to_char(a.xact_start, 'HH24:MI:SS TZ') FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
          " WHERE l.locktype = 'advisory' AND l.classid = {} AND l.objid = {} AND l.granted", *(lit(part) for part in LOCK))
    )  # fmt: skip
    who = "; ".join(f"{name or 'unnamed'} (pid {pid}) since {since}" for name, pid, since in holders)
    raise ReconcilerError(
        f"another apply is at work on {session.name}",
        why=f"held by {who}" if who else None,
        todo="wait for it to end, then run this again",
    )


def judge(session: Session, staged: Sequence[Staged]) -> None:
    """Classify every change of every step; drift anywhere stops everything."""
    details: list[str] = []
    count = 0
    for item in staged:
        if item.step.verb is Verb.INSERT:
            item.analyze(session)
        drifted, named = _judge(session, item)
        count += drifted
        details += named[: max(0, NAMED - len(details))]
    if count:
        if count > len(details):
            details.append(f"… and {count - len(details)} more")
        raise Drift(
            f"{count} changes do not fit the world as it is now; nothing was changed on {session.name}",
            details=tuple(details),
            why="somebody changed these rows after the plan was made",
        )


def _judge(session: Session, item: Staged) -> tuple[int, list[str]]:
    match item.step.verb:
        case Verb.INSERT:
            drift, settled = raw("NOT after"), raw("after")
            after, before = item.after, raw("false")
        case Verb.UPDATE:
            drift, settled = raw("NOT after AND NOT before"), raw("after")
            after, before = item.after, item.holds("b", "mb")
        case _:
            drift, settled = raw("NOT before"), raw("false")
            after, before = raw("false"), item.holds("c", None)
    _refuse_doubled(session, item)
    total = item.todo + item.already  # it may be asked again, after a lock
    locked = q(
        "SELECT coalesce({after}, false) AS after, coalesce({before}, false) AS before FROM {p} p JOIN {t} t ON {on} FOR UPDATE OF t",
        after=after, before=before, p=item.temp, t=item.live, on=item.on_key("p", "t")
    )  # fmt: skip
    found, drifted, so = session.one(
        q("SELECT count(*), count(*) FILTER (WHERE {}), count(*) FILTER (WHERE {}) FROM ({}) j", drift, settled, locked)
    )
    gone = total - found if item.step.verb is Verb.UPDATE else 0
    item.already = total - found if item.step.verb is Verb.DELETE else so
    item.todo = total - item.already
    if drifted or gone:
        return drifted + gone, _name(session, item, drift, after, before)
    if item.already:
        _mark(session, item)
    return 0, []


def _refuse_doubled(session: Session, item: Staged) -> None:
    """A key that no unique index keeps may stand for several rows by now, of which the plan knows one."""
    if item.table.unique_on(item.step.key):
        return
    if item.numbered:
        _refuse_miscounted(session, item)
    keys = join([ident("p", temp) for _, temp in item.key])
    rows = session.rows(
        q("SELECT concat_ws(', ', {keys}), count(*) FROM {p} p JOIN {t} t ON {on} GROUP BY {keys} HAVING count(*) > 1 ORDER BY 1"
          " LIMIT {most}", keys=keys, p=item.temp, t=item.live, on=item.on_key("p", "t"), most=lit(NAMED))
    )  # fmt: skip
    if rows:
        raise Drift(
            f"keys of {item.step.target} stand for several rows now; nothing was changed on {session.name}",
            details=tuple(f"{item.step.target} ({key}): planned one row, found {count}" for key, count in rows),
            why="rows with the same key have come since the plan was made",
        )


def _refuse_miscounted(session: Session, item: Staged) -> None:
    """Equal rows go by a number: of more than there were some other would go, and behind fewer none comes back under its own."""
    assert item.numbered
    deletes = item.step.verb is Verb.DELETE
    names = [ident("k1"), *([ident("s1")] if deletes and item.step.unique else [])]
    planned = join([q("SELECT split_part({0}, '/', 1) AS h, split_part({0}, '/', 2)::int8 AS n FROM {1}", name, item.temp)
                    for name in names], " UNION ")  # fmt: skip
    wrong = raw("live > planned") if deletes else raw("live < planned AND live + coming <> planned")
    rows = session.rows(
        q("SELECT h, planned, live, coming FROM (SELECT h, coalesce(l.live, 0) AS live, max(n) AS planned,"
          " count(*) FILTER (WHERE n > coalesce(l.live, 0)) AS coming FROM ({planned}) y LEFT JOIN"
          " (SELECT split_part(whole, '/', 1) AS h, count(*) AS live FROM {w} GROUP BY 1) l USING (h) GROUP BY h, l.live) c"
          " WHERE {wrong} ORDER BY 1 LIMIT {most}", planned=planned, w=item.numbered, wrong=wrong, most=lit(NAMED))
    )  # fmt: skip
    if rows:
        raise Drift(
            f"equal rows of {item.step.target} are not as many as planned; nothing was changed on {session.name}",
            details=tuple(
                f"{item.step.target} ({h}): planned {most}, found {live}"
                if deletes
                else f"{item.step.target} ({h}): planned {most} in the end, found {live} and {coming} to come"
                for h, most, live, coming in rows
            ),
            why="equal rows have come since the plan was made"
            if deletes
            else "rows they are equal to have changed or gone since, or have not come back themselves",
        )


def _mark(session: Session, item: Staged) -> None:
    if item.step.verb is Verb.DELETE:
        session.run(
            q("UPDATE {p} p SET st = 'a' WHERE NOT EXISTS (SELECT FROM {t} t WHERE {on})", p=item.temp, t=item.live,
              on=item.on_key("p", "t"))
        )  # fmt: skip
    else:
        session.run(
            q("UPDATE {p} p SET st = 'a' FROM {t} t WHERE {on} AND {after}", p=item.temp, t=item.live,
              on=item.on_key("p", "t"), after=item.after)
        )  # fmt: skip


def _name(session: Session, item: Staged, drift: Composable, after: Composable, before: Composable) -> list[str]:
    """A line for each drifted thing: its key, and planned beside actual for each column that does not fit."""
    letter, mask = {Verb.INSERT: ("c", None), Verb.UPDATE: ("b", "mb"), Verb.DELETE: ("c", None)}[item.step.verb]
    staged = [ident("p", f"{letter}{n}") for n in range(1, len(item.columns) + 1)]
    live = [ident("t", column.name) for column in item.columns]
    keys = [ident("p", temp) for _, temp in item.key]
    wrong = [
        q("{} AND NOT {}", item.given(mask, n) if mask else raw("true"), item.equal(column, t, p))
        for n, (column, t, p) in enumerate(zip(item.columns, live, staged, strict=True), 1)
    ]
    there = ident("t", item.key[0][0])
    rows = session.rows(
        q("SELECT ARRAY[{keys}], {there} IS NOT NULL, ARRAY[{wrong}]::bool[], ARRAY[{p}]::text[], ARRAY[{t}]::text[]"
          " FROM {temp} p LEFT JOIN {table} t ON {on} WHERE ({there} IS NULL AND {needed})"
          " OR ({there} IS NOT NULL AND (SELECT {drift} FROM (SELECT coalesce({after}, false) AS after, coalesce({before}, false) AS before) v))"
          " ORDER BY 1 LIMIT {most}",
          keys=join([q("({})::text", k) for k in keys]), there=there, wrong=join(wrong) if wrong else raw("null"),
          p=join([q("({})::text", p) for p in staged]) if staged else raw("null"),
          t=join([q("({})::text", t) for t in live]) if live else raw("null"), temp=item.temp, table=item.live,
          on=item.on_key("p", "t"), needed=raw("true" if item.step.verb is Verb.UPDATE else "false"), drift=drift, after=after,
          before=before, most=lit(NAMED))
    )  # fmt: skip
    return [_drift_line(item.step, item.columns, *row) for row in rows]


def _drift_line(
    step: Step,
    columns: Sequence[object],
    key: list[str],
    there: bool,
    wrong: list[bool],
    planned: list[str | None],
    actual: list[str | None],
) -> str:
    head = f"{step.target} ({', '.join(key)})"
    if not there:
        return f"{head}: planned {step.verb.value}, found no such row"
    names = sorted(name for name in step.columns if step.verb is not Verb.UPDATE or name not in step.key)
    parts: list[str] = []
    for name, off, before, now in zip(names, wrong, planned, actual, strict=True):
        if off:
            shown = ("(sensitive)", "(sensitive)") if name in step.sensitive else (_short(before), _short(now))
            parts.append(f"{name}: planned {shown[0]}, found {shown[1]}")
    what = "already there with other values: " if step.verb is Verb.INSERT else ""
    return f"{head}: {what}{'; '.join(parts) or 'changed'}"


def _short(value: str | None, most: int = 60) -> str:
    if value is None:
        return "NULL"
    shown = value if len(value) <= most else value[: most - 1] + "…"
    return "".join(c if c.isprintable() else "·" for c in f"'{shown}'")

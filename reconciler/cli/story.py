"""What an investigation found, told for people: coverage first, then what happened, in order.

In: an `Investigation`. Out: lines of text, or of Markdown. Nothing is decided here, and lines grow with what was found, not with the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.views.escape import cut, plain, prose
from reconciler.views.overview import amount

if TYPE_CHECKING:
    from reconciler.systems.postgres.investigate import Burst, Investigation, Mass, Recorded
    from reconciler.systems.postgres.losses import Finished

Item = tuple[str, list[str]]
"""A line and what belongs below it."""

_MOST_NAMES = 12


def tell(found: Investigation, *, markdown: bool) -> Iterator[str]:
    """The whole story."""
    sections = (("Coverage", _coverage(found)), ("Timeline", _timeline(found)))
    if markdown:
        yield f"## Audit log {prose(found.log)}"
        yield ""
        yield prose(_head(found))
        for title, items in sections:
            yield from ("", f"### {title}", "")
            for line, below in items:
                yield f"- {prose(line)}"
                yield from (f"  - {prose(it)}" for it in below)
        return
    yield plain(f"{found.log}: {_head(found)}")
    for title, items in sections:
        yield from ("", title)
        for line, below in items:
            yield f"  {plain(line)}"
            yield from (f"      {plain(it)}" for it in below)


def _head(found: Investigation) -> str:
    if found.first is None or found.last is None:
        return f"no records{f' since {found.since}' if found.since else ''} ({found.layout})"
    return f"{amount(found.records, 'record')} from {_time(found.first)} to {_time(found.last)} UTC ({found.layout})"


def _time(text: str) -> str:
    return text.removesuffix("+00")


def _coverage(found: Investigation) -> list[Item]:
    items = [_recorded(it) for it in found.recorded]
    if found.unaudited:
        names = [f"{name} ({amount(rows, 'row')})" if rows >= 0 else name for name, rows in found.unaudited]
        items.append((f"neither record nor trigger: {_list(names)}", []))
    if found.without_application and found.records:
        of = (
            "all"
            if found.without_application == found.records
            else f"{found.without_application:,} of {found.records:,}"
        )
        items.append((f"{of} records do not say which program wrote them (application_name)", []))
    items += [(f"no record for {it.length}: from {_time(it.first)} to {_time(it.last)}", []) for it in found.silences]
    return [*items, *((note, list[str]()) for note in found.notes)]


def _recorded(it: Recorded) -> Item:
    counts = ", ".join(f"{operation} {count:,}" for operation, count in it.counts.items())
    rows = "gone" if not it.exists else "no table" if it.rows is None else f"{amount(it.rows, 'row')} now"
    below: list[str] = []
    if it.never:
        below.append(f"never recorded: {', '.join(it.never)}")
    if it.without_trigger:
        below.append(f"no trigger records {', '.join(it.without_trigger)} now")
    if it.without_insert:
        rest = "all rows" if it.without_insert == it.rows else f"{it.without_insert:,} of {amount(it.rows or 0, 'row')}"
        below.append(f"{rest} that are there have no INSERT record: the log cannot say where they came from")
    return f"{it.table}, {rows}: {counts}, from {_time(it.first)} to {_time(it.last)}", below


def _timeline(found: Investigation) -> list[Item]:
    events: list[tuple[str, int, Item]] = []
    if found.first is not None:
        events.append((found.first, 0, (f"{_time(found.first)}  the log begins", [])))
    guessed = {it.table for it in found.recorded if "INSERT" in it.never or "DELETE" in it.never}
    events += [(it.first, 1, _mass(it, "about " if it.table in guessed else "")) for it in found.masses]
    events += [(it.first, 2, _burst(it)) for it in found.bursts]
    events += [(it.first, 3, _finished(it)) for it in found.finished]
    items = [item for _, _, item in sorted(events, key=lambda event: event[:2])]
    if not found.masses and found.records:
        items.append(("no mass operation", []))
    return items


def _mass(it: Mass, about: str) -> Item:
    share = f" ({100 * it.rows / it.of:.1f}% of {about}{it.of:,})" if it.of and it.of >= it.rows else ""
    moment = it.first == it.last
    how = "in one statement" if moment else f"in one transaction, until {_time(it.last)}"
    what = (
        f"TRUNCATE of {it.table}"
        if it.operation == "TRUNCATE"
        else f"{it.operation} of {amount(it.rows, 'row')} of {it.table}{share}"
    )
    below = [_who(it.role, it.application, it.client, it.transaction, it.plan)]
    if it.lost:
        below += _lost(it)
    if it.emptied:
        below.append(f"columns that changed: {_list([f'{c.column} ({c.changed:,})' for c in it.emptied])}")
        gone = [f"{c.column} ({c.emptied:,})" for c in it.emptied if c.emptied]
        below += [f"emptied by it: {_list(gone)}"] if gone else []
    if it.again is not None:
        by = ", ".join(it.again.by)
        below.append(
            f"{it.again.rows:,} of them stand in the table again under another key, told by {by}"
            if it.again.rows
            else f"none of them stands in the table again under another key, told by {by}"
        )
    return f"{_time(it.first)}  {what} {how}", below


def _lost(it: Mass) -> list[str]:
    none = [c.column for c in it.lost if c.filled == 0]
    same = [f"{c.column} = {c.value}" for c in it.lost if c.value is not None]
    some = [f"{c.column} ({c.filled:,})" for c in it.lost if 0 < c.filled < it.rows]
    lines = [f"{amount(it.rows, 'row')}, none had {_list(none, 'or')}"] if none else []
    lines += [f"some had {_list(some)}"] if some else []
    return lines + ([f"all had {_list(same)}"] if same else [])


def _who(
    role: str | None, application: str | None, client: str | None, transaction: str | None, plan: str | None
) -> str:
    parts = [
        f"by {role}" if role else "by an unknown role",
        f"with {cut(application, 64)}" if application else "no application named",
        f"from {client}" if client else "no address recorded",
        *([f"transaction {transaction}"] if transaction else []),
        *([f"plan {plan}"] if plan else []),
    ]
    return ", ".join(parts)


def _burst(it: Burst) -> Item:
    who = ", ".join(
        [*([f"by {it.role}"] if it.role else []), *([f"with {cut(it.application, 64)}"] if it.application else [])]
    )
    line = f"{_time(it.first)}  burst: {it.operation} of {amount(it.rows, 'row')} of {it.table} in {amount(it.transactions, 'transaction')}"
    return f"{line}, until {_time(it.last)}", [who] if who else []


def _finished(it: Finished) -> Item:
    kind = f" {it.type}" if it.type else ""
    until = f", until {_time(it.last)}" if it.last != it.first else ""
    line = f"{_time(it.first)}  {amount(it.rows, 'job record')} deleted after success: {it.table}{kind} ({it.status}){until}"
    return line, []


def _list(names: list[str], last: str = "and") -> str:
    more = len(names) - _MOST_NAMES
    shown = [cut(name, 80) for name in names[:_MOST_NAMES]]
    if more > 0:
        return f"{', '.join(shown)} {last} {more} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"

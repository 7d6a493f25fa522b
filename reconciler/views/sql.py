"""A plan as a script for psql, with the guards of `apply`: for review, and for places where only psql runs.

Per transaction: all changes are staged, judged under lock and drift refused before the first write; then the steps in
their order, then what triggers changed is written once more, then everything is checked. Steps not in SQL are named.
Invariant: the script does exactly what the plan lists or fails; where it cannot, it says so and refuses to run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from reconciler.plan.file import Plan
from reconciler.plan.step import Step, Verb
from reconciler.views import sql_blocks as blocks
from reconciler.views import sql_objects as objects
from reconciler.views.definitions import OBJECT_VERBS
from reconciler.views.overview import amount, hazard_text, in_database, totals
from reconciler.views.sql_statements import ROW_VERBS, Staged, judge, raise_sequence, read, settle, stage, survey, write
from reconciler.views.sql_words import block, check_words, comment, literal

_VERBS = {*ROW_VERBS, *OBJECT_VERBS, Verb.SETVAL}


def render(plan: Plan) -> Iterator[str]:
    """The script, piece by piece."""
    reasons = refusals(plan)
    yield from _head(plan)
    if reasons:
        yield from map(comment, ("", "THIS PLAN CANNOT BE RUN AS A SCRIPT:", *reasons))
        said = "this plan cannot be run as a script; use reconciler apply. " + " ".join(reasons)
        yield block(f"RAISE EXCEPTION USING MESSAGE = {literal(said)};") + "\n"
        return
    several = len({step.connection for step in plan.steps if _is_sql(plan, step)}) > 1
    for connection, run in groupby(plan.steps, key=lambda step: step.connection):
        steps = list(run)
        if mine := [step for step in steps if _is_sql(plan, step)]:
            yield from _transaction(plan, connection, mine, several=several)
        for step in steps:
            if not _is_sql(plan, step):
                left = f"{step.id}, {amount(step.count, 'change')}"
                yield "\n" + comment(f"NOT IN THIS SCRIPT, run reconciler apply afterwards: {left}")


def refusals(plan: Plan) -> list[str]:
    """Why a script cannot do what this plan says: sentences."""
    reasons: list[str] = []
    foreign: set[str] = set()
    created: set[str] = set()
    modes: dict[tuple[str, str], set[str]] = {}
    for step in plan.steps:
        if step.sensitive:
            names = ", ".join(step.sensitive)
            reasons.append(f"{step.id}: the values of {names} are sensitive and not in the plan.")
        if step.unique or step.archive or step.archived_by:
            reasons.append(f"{step.id}: duplicates go, and come back, under guards that reconciler apply alone has.")
        if not _is_sql(plan, step):
            foreign.add(step.id)
            continue
        if step.verb not in OBJECT_VERBS:
            check_words(step)
        if waits := [before for before in step.needs if before in foreign]:
            foreign.add(step.id)
            reasons.append(f"{step.id} needs {waits[0]}, which is not SQL.")
        elif step.verb in OBJECT_VERBS:
            reasons += [f"{step.id}: {why}" for change in plan.changes(step) if (why := objects.refusal(change))]
            created |= {step.target} if step.verb is Verb.CREATE else set()
        elif f"table {step.target}" in created:
            reasons.append(f"{step.id}: its table is one that this plan creates.")
        elif step.verb in ROW_VERBS:
            modes.setdefault((step.connection, step.target), set()).add(step.triggers)
    mixed = sorted(target for (_, target), found in modes.items() if len(found) > 1)
    reasons += [f"{target}: some steps want its triggers off and some do not." for target in mixed]
    return reasons


def _is_sql(plan: Plan, step: Step) -> bool:
    return step.verb in _VERBS and in_database(plan, step)


def _head(plan: Plan) -> Iterator[str]:
    yield comment(f"reconciler plan {plan.id}: {totals(plan.header.summary)}")
    places = list(dict.fromkeys(step.connection for step in plan.steps if _is_sql(plan, step)))
    match places:
        case []:
            yield comment("Nothing in this plan is SQL.")
        case [place]:
            yield comment(f"Run it with psql -X -f THIS_FILE on the database that the spec calls {place}.")
        case _:
            variables = " ".join(f"-v {_variable(place)}=URL" for place in places)
            yield comment(f"Run it with: psql -X {variables} -f THIS_FILE")
    yield from (comment(f"! {hazard_text(hazard)}") for hazard in plan.header.hazards)
    yield from (comment(f"? {it.address} is deferred: {it.reason}") for it in plan.header.deferred)
    yield "\\set ON_ERROR_STOP on\n\\encoding UTF8\n"


def _variable(connection: str) -> str:
    return re.sub(r"\W", "_", connection, flags=re.ASCII)


def _transaction(plan: Plan, connection: str, steps: Sequence[Step], *, several: bool) -> Iterator[str]:
    yield "\n" + comment(f"{connection}: {amount(len(steps), 'step')} in one transaction")
    if several:
        yield _connect(_variable(connection))
    yield f"BEGIN;\n{blocks.settings(plan.id)}\n"
    about = plan.header.connections.get(connection, {})
    if about.get("type") == "postgres" and "fingerprint" in about:
        yield f"{blocks.fingerprint(connection, about['fingerprint'])}\n"
    rows = [survey(plan, at, step) for at, step in enumerate(steps, 1) if step.verb in ROW_VERBS]
    if rows:
        yield from _rows(plan, steps, rows)
    else:
        yield from (text for step in steps if step.verb in OBJECT_VERBS for text in _objects(plan, step))
    for step in steps:
        if step.verb is Verb.SETVAL:
            yield "\n" + comment(step.id)
            yield from (f"{raise_sequence(change, step)}\n" for change in plan.changes(step))
    yield "COMMIT;\n"


def _connect(variable: str) -> str:
    return (
        f"\\if :{{?{variable}}}\n\\connect -reuse-previous=off :{variable}\n\\else\n"
        f"DO $$BEGIN RAISE EXCEPTION 'say where it is: psql -v {variable}=URL'; END$$;\n\\endif\n"
    )


def _objects(plan: Plan, step: Step) -> Iterator[str]:
    """The blocks of a step of objects."""
    yield "\n" + comment(step.id)
    yield from (f"{objects.carry_out(change, step.loses)}\n" for change in plan.changes(step))


def _rows(plan: Plan, steps: Sequence[Step], rows: Sequence[Staged]) -> Iterator[str]:
    yield f"{blocks.tables(rows)}\n"
    for staged in rows:
        step = staged.step
        yield "\n" + comment(f"{staged.number}. {step.id}: {amount(step.count, 'row')}")
        yield from map(comment, step.notes)
        yield from stage(plan, staged)
    yield f"ANALYZE {blocks.CHANGES};\n\n-- what is there, under lock, beside what was planned\n"
    yield from (f"{read(staged, lock=True)}\n{judge(staged)}\n" for staged in rows)
    yield f"{blocks.refuse_drift()}\n"
    if any(staged.step.verb is Verb.DELETE for staged in rows):
        yield f"\n-- a delete takes nothing along that the plan does not list\n{blocks.refuse_unlisted()}\n"
    quiet = sorted({staged.step.target for staged in rows if staged.step.triggers == "off"})
    yield from (f"\n{blocks.triggers_off(name)}\n" for name in quiet)
    for node in _nodes(steps, rows):
        if isinstance(node, Step):
            yield "SET CONSTRAINTS ALL IMMEDIATE;\n"
            yield from _objects(plan, node)
            continue
        yield "\n" + "".join(comment(f"{staged.number}. {staged.step.id}") for staged in node)
        passes = sorted({guard for staged in node for guard in staged.step.passes})
        if passes:
            reason = literal(f"reconciler plan {plan.id} passes {', '.join(passes)}")
            yield f"SET LOCAL reconciler.allow = {reason};\n"
        yield f"{write(node)}\n"
        if passes:
            yield "SET LOCAL reconciler.allow = '';\n"
    yield "\n-- what triggers changed is written once more, then everything is checked\n"
    yield from (f"{text}\n" for staged in rows if (text := settle(staged)))
    yield "SET CONSTRAINTS ALL IMMEDIATE;\n"
    if quiet:
        yield f"{blocks.triggers_on()}\n"
    yield f"UPDATE {blocks.CHANGES} SET found = NULL;\n"
    yield from (f"{read(staged, lock=False)}\n" for staged in rows)
    yield f"{blocks.refuse_difference()}\n{blocks.report()}\n"


def _nodes(steps: Sequence[Step], rows: Sequence[Staged]) -> Iterator[list[Staged] | Step]:
    """Steps of rows that are one statement together, and steps of objects between them."""
    staged = {it.step.id: it for it in rows}
    for _, members in groupby(steps, key=lambda step: step.together or step.id):
        node = list(members)
        if node[0].verb in OBJECT_VERBS:
            yield from node
        elif node[0].id in staged:
            yield [staged[step.id] for step in node]

"""Sensitive values are in no plan: apply reads them again from the source and checks them against the plan's digests."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from reconciler.kinds.collections import compile_collection
from reconciler.kinds.world import World
from reconciler.plan.errors import Drift
from reconciler.plan.step import Verb
from reconciler.systems.postgres.as_of import AsOf
from reconciler.systems.postgres.catalog import Catalog
from reconciler.systems.postgres.differ import stage_rows
from reconciler.systems.postgres.found import settle_columns, temporary_tables
from reconciler.systems.postgres.lines import load_lines
from reconciler.systems.postgres.rows import LinesSource, full_name, hmac_sql
from reconciler.systems.postgres.session import Session, ident, join, q, raw

if TYPE_CHECKING:
    from reconciler.systems.postgres.run import Secrets
    from reconciler.systems.postgres.staging import Staged


def rereading(world: World) -> Secrets:
    """What the executor calls for a step with sensitive columns: beside each digest it puts the value it stands for."""

    first = count(10_000, 1_000)  # each step's temporary tables have numbers of their own

    def put(session: Session, catalog: Catalog, item: Staged) -> None:
        if item.step.verb is Verb.DELETE or not item.todo:
            return
        address = item.step.address
        collection = world.spec.document.collections[address.partition(".")[2]]
        made = compile_collection(world, address, collection, next(first))
        intent = next(it for it in made.intents if full_name(it.target.name) == item.step.target)
        for reach in made.reaches:
            if isinstance(reach, AsOf) and reach.number == intent.number:
                reach.make()
                reach.fill()
        session.run(join(temporary_tables(intent), "; "))
        if isinstance(intent.source, LinesSource):
            available, types = load_lines(session, intent, intent.source), dict[str, str]()
        else:
            types = {name: column.type for name, column in intent.source.table.columns.items()}
            available = tuple(types)
        found = settle_columns(intent, available, types)
        rows = session.run(
            q("INSERT INTO {d} ({k}, kind) SELECT {p}, 'm'::\"char\" FROM {temp} p WHERE {open}", d=intent.temp("d"),
              k=join([ident(k) for k in found.keys]), p=join([ident("p", t) for _, t in item.key]), temp=item.temp, open=item.open_only)
        )  # fmt: skip
        stage_rows(session, found, rows)
        letter = "a" if item.step.verb is Verb.UPDATE else "c"
        on = join([q("{} = {}", ident("s", name), ident("p", temp)) for name, temp in item.key], " AND ")
        for number, column in enumerate(item.columns, 1):
            if column.name not in item.step.sensitive:
                continue
            staged = f"{letter}{number}"
            session.run(q("ALTER TABLE {} ADD COLUMN {} {}", item.temp, ident("v_" + staged), raw(column.type)))
            session.run(
                q("UPDATE {p} p SET {v} = s.{c} FROM {s} s WHERE {on}", p=item.temp, v=ident("v_" + staged), c=ident(column.name),
                  s=intent.temp("s"), on=on)
            )  # fmt: skip
            given = item.given("ma", number) if item.step.verb is Verb.UPDATE else raw("true")
            wrong = session.value(
                q("SELECT count(*) FROM {p} p WHERE {open} AND {given} AND {mac} IS DISTINCT FROM {c}", p=item.temp, open=item.open_only,
                  given=given, mac=hmac_sql(ident("p", "v_" + staged)), c=ident("p", staged))
            )  # fmt: skip
            if wrong:
                raise Drift(
                    f"{wrong} values of {item.step.target}.{column.name} in the source are not those of the plan",
                    why="the source changed after the plan was made, or the digest key is another one",
                )

    return put

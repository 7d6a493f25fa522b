"""Rows reached on one side lead to their dependents on the other: what each side's closure reaches is made known to the other.

In: the `Reach` of the target and that of the source. Out: their tables filled, parents first, such that a row belongs to the closure
if its keys lead to the roots in either. Invariant: where both sides reach the same, which they are asked as a whole, nothing travels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.plan.names import TableName
from reconciler.systems.postgres.closure import Reach
from reconciler.systems.postgres.session import Composable, Row, join, lit, q


@dataclass
class Reached:
    """Both sides of a `follow: dependents`."""

    target: Reach
    source: Reach

    def make(self) -> None:
        for side in (self.target, self.source):
            side.run(side.made)

    def fill(self) -> None:
        for level in self.target.levels:
            components = list(level)
            while components:
                self.target.fill(components)
                self.source.fill(components)
                components = self._exchange(components)

    def _exchange(self, components: Sequence[tuple[TableName, ...]]) -> list[tuple[TableName, ...]]:
        """Tell either side what only the other reaches; cycles of tables that it leads on in are to be filled once more."""
        both = [
            name
            for members in components
            for name in members
            if name in self.target.given and name in self.source.given
        ]
        here, there = _sums(self.target, both), _sums(self.source, both)
        differ = [name for name in both if here[name] != there[name]]
        news = [
            name
            for name in differ  # a side that reaches no row has nothing to tell
            if (here[name][1] and _tell(self.target, self.source, name))
            + (there[name][1] and _tell(self.source, self.target, name))
        ]
        for side in (self.target, self.source):
            side.run([_merge(side, name) for name in differ])
        return [
            it
            for it in components
            if it in self.target.cyclic | self.source.cyclic and any(name in news for name in it)
        ]


def _sums(side: Reach, tables: Sequence[TableName]) -> dict[TableName, Row]:
    if not tables:
        return {}
    asked = [
        q("SELECT {}, count(*), bit_xor(hashtextextended(r::text, 0)), sum(hashtextextended(r::text, 0)) FROM {} r", lit(number), side.reached[name])
        for number, name in enumerate(tables)
    ]  # fmt: skip
    return {tables[row[0]]: row for row in side.session.rows(join(asked, " UNION ALL "))}


def _tell(giver: Reach, taker: Reach, table: TableName) -> int:
    """Send what one side reaches; how much of it the other had not been told before comes back."""
    before = taker.session.run(q("DELETE FROM {}", taker.given[table]))
    query = q("SELECT DISTINCT * FROM {}", giver.reached[table])
    if giver.session is taker.session:
        return taker.session.run(q("INSERT INTO {} {}", taker.given[table], query)) - before
    blocks = giver.session.copy_out(q("COPY ({}) TO STDOUT", query))
    return taker.session.copy_in(q("COPY {} FROM STDIN", taker.given[table]), blocks) - before


def _merge(side: Reach, table: TableName) -> Composable:
    return q(
        "INSERT INTO {r} SELECT * FROM {g} EXCEPT SELECT * FROM {r}; ANALYZE {r}",
        r=side.reached[table],
        g=side.given[table],
    )

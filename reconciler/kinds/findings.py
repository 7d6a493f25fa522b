"""What was found of the chosen resources: steps, statuses, and files of findings are made from it.

In: `Observed`, filled by `observe.py` while the snapshots stand. Nothing is compared here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.kinds.guarded import pass_guards
from reconciler.kinds.world import World
from reconciler.plan.file import Planned
from reconciler.plan.order import Edge
from reconciler.plan.step import Check as CheckState
from reconciler.plan.step import Deferred, Hazard, Verb
from reconciler.systems.postgres.emit import Emitted
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.planner import steps_of
from reconciler.systems.postgres.rows import Duplicates, OnExtra, full_name
from reconciler.systems.postgres.session import Session

if TYPE_CHECKING:
    from reconciler.kinds.processes import Waiting
    from reconciler.systems.pds.compare import Compared
    from reconciler.systems.postgres.described import Objects
    from reconciler.systems.postgres.kept_diff import KeptFound
    from reconciler.systems.postgres.object_diff import ObjectsFound


@dataclass(frozen=True)
class ResourceStatus:
    """A table, a file of objects or a collection of records, of a resource, in numbers."""

    address: str
    target: str
    in_sync: int
    missing: int
    changed: int
    extra: int
    notes: tuple[str, ...]
    deletes_extra: bool
    wrong: int = 0
    check: CheckState | None = None

    @property
    def failed(self) -> bool:
        """Whether it is a check that does not hold."""
        return self.check is not None and self.check.failed

    @property
    def differs(self) -> bool:
        return bool(self.missing or self.changed or self.wrong or (self.extra and self.deletes_extra))


@dataclass
class Observed:
    world: World
    addresses: Sequence[str] = ()
    founds: dict[str, list[Found]] = field(default_factory=dict[str, list[Found]])
    """By connection."""
    objects: list[ObjectsFound] = field(default_factory=list["ObjectsFound"])
    prefixes: list[tuple[str, Objects]] = field(default_factory=list[tuple[str, "Objects"]])
    """What was found in buckets, with the storage's connection."""
    kept: list[KeptFound] = field(default_factory=list["KeptFound"])
    """Audits and guards."""
    records: list[Compared] = field(default_factory=list["Compared"])
    processes: list[Waiting] = field(default_factory=list["Waiting"])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    waiting: list[tuple[str, Found]] = field(default_factory=list[tuple[str, Found]])
    """Unique keys that are deferred, by connection: they are counted all the same."""
    deferred: list[Deferred] = field(default_factory=list[Deferred])

    def steps(self) -> Emitted:
        """Steps, edges and risks over all connections."""
        everything = Emitted()
        for connection, founds in self.founds.items():
            out = steps_of(self.world.session(connection), self.world.catalog(connection), founds)
            everything.steps += out.steps
            everything.must += out.must
            everything.rather += out.rather
            everything.hazards += out.hazards
            everything.hazards += pass_guards(self.world.session(connection), founds, everything.steps)
        if self.kept:
            from reconciler.kinds.kept import add_kept

            add_kept(everything, self.kept)
        for objects in self.objects:
            steps, edges = objects.steps()
            everything.steps += steps
            everything.must += edges
            everything.hazards += objects.hazards
        for connection, prefix in self.prefixes:
            from reconciler.systems.postgres.described_steps import object_steps

            out = object_steps(self.world.session(prefix.intent.connection), prefix, connection)
            everything.steps += out.steps
            everything.must += out.must
            everything.hazards += out.hazards
        if self.records:
            self._add_records(everything)
        if self.processes:
            from reconciler.kinds.processes import add_steps

            add_steps(self.world, self.processes, self.founds, everything)
        everything.hazards += [Hazard("left-out", address, text) for address, text in self.notes]
        return everything

    def _add_records(self, everything: Emitted) -> None:
        """Records come after the rows of the same plan, unless something else asks for another order."""
        from reconciler.systems.pds.emit import hazards_of, limits_of, steps_of

        before = {item.step.id for item in everything.steps}
        last = sorted(before - {one for one, other in everything.must if other in before})
        for found in self.records:
            steps, edges = steps_of(found)
            everything.steps += steps
            everything.must += edges
            everything.rather += [(name, steps[0].step.id) for name in last if steps]
            everything.hazards += hazards_of(found)
        everything.hazards += limits_of(self.records)

    def needs(self, steps: Mapping[str, Planned]) -> list[Edge]:
        """The edges that `needs` in the spec asks for."""
        by_address: dict[str, list[str]] = {}
        for name, item in steps.items():
            by_address.setdefault(item.step.address, []).append(name)
        resources = self.world.spec.resources()
        return [
            (before, after)
            for address, names in by_address.items()
            for needed in (resources[address].needs if address in resources else ())
            for before in by_address.get(needed, ())
            for after in names
        ]

    def _declared(self) -> Iterator[tuple[str, Found]]:
        for connection, founds in self.founds.items():
            for found in founds:
                if found.written and not found.intent.finds:
                    yield connection, found

    def _keys(self) -> list[tuple[str, Found]]:
        """Every unique key, also those that wait."""
        planned = [(connection, found) for connection, founds in self.founds.items() for found in founds]
        return [it for it in (*planned, *self.waiting) if isinstance(it[1].intent.finds, Duplicates)]

    def intents(self) -> list[tuple[Session, Found]]:
        """What was declared, each with the session its target is on."""
        return [(self.world.session(connection), found) for connection, found in self._declared()]

    def status(self) -> list[ResourceStatus]:
        """Every table of every resource."""
        counted = [
            ResourceStatus(
                address=found.intent.address,
                target=f"{connection} {full_name(found.intent.target.name)}",
                in_sync=max(0, found.alike),
                missing=found.missing,
                changed=found.changed + found.held[0],
                extra=max(found.extra + found.held[1], found.staying),
                notes=tuple(found.notes),
                deletes_extra=found.intent.on_extra is OnExtra.DELETE,
            )
            for connection, found in sorted(self._declared(), key=lambda item: item[1].intent.label)
        ]
        counted += [
            ResourceStatus(
                address=found.intent.address,
                target=f"{connection} {full_name(found.intent.target.name)}",
                in_sync=found.source_rows or 0,
                missing=0,
                changed=0,
                extra=found.extra,
                notes=tuple(found.notes),
                deletes_extra=True,
                wrong=self._lacking(connection, found),
            )
            for connection, found in self._keys()
        ]
        counted += [
            ResourceStatus(
                address=it.intent.address,
                target=f"{it.intent.connection} {full_name(it.intent.target.name)}",
                in_sync=it.in_sync,
                missing=it.counts["missing_in_db"],
                changed=it.rows.changed
                + it.counts.get("sign", 0)
                + it.counts.get("move", 0)
                + it.counts.get("stuck", 0),
                extra=it.counts["unexpected"],
                notes=tuple(it.notes),
                deletes_extra=False,
                wrong=it.counts["missing_in_storage"],
            )
            for _, it in self.prefixes
        ]
        counted += [
            ResourceStatus(
                address=it.declared.address,
                target=f"{it.declared.connection} {it.declared.file}",
                in_sync=it.in_sync,
                missing=it.count(Verb.CREATE),
                changed=it.count(Verb.ALTER),
                extra=it.count(Verb.DROP),
                notes=tuple(it.notes),
                deletes_extra=True,
            )
            for it in self.objects
        ]
        counted += [
            ResourceStatus(
                it.address, f"{it.connection} {it.label}", it.in_sync, *it.counts, tuple(it.notes), deletes_extra=True
            )
            for it in self.kept
        ]
        counted += [
            ResourceStatus(
                address=it.wanted.address,
                target=f"{it.wanted.connection} {it.wanted.collection}",
                in_sync=it.in_sync,
                missing=len(it.creates),
                changed=len(it.updates),
                extra=len(it.extra),
                notes=(f"{it.outside} rows of the source are outside of `rkeys`",) if it.outside else (),
                deletes_extra=it.wanted.delete,
            )
            for it in self.records
        ]
        if self.processes:
            from reconciler.kinds.processes import status_of

            counted += [ResourceStatus(**status_of(self.world, it)) for it in self.processes]
        counted += [
            ResourceStatus(it.address, "", int(bool(it.holds)), 0, 0, 0, (it.text,), False, int(it.failed), it)
            for it in self.checks()
        ]
        counted += [
            ResourceStatus(it.address, "", 0, 0, 0, 0, (it.reason,), deletes_extra=False, wrong=1)
            for it in self._uncounted()
        ]
        return sorted(counted, key=lambda it: it.address)

    def _uncounted(self) -> list[Deferred]:
        """What cannot even be looked at; a unique key that only waits is looked at all the same."""
        waiting = {found.intent.address for _, found in self.waiting}
        return [it for it in self.deferred if it.address not in waiting]

    def checks(self, *, created: bool = False) -> tuple[CheckState, ...]:
        """How the chosen checks stand now; `created`: steps make things, so that what is not there may come to be."""
        if not self.world.spec.document.checks:
            return ()
        from reconciler.kinds.checks import stand

        return stand(self.world, self.addresses, created=created)

    def _lacking(self, connection: str, found: Found) -> int:
        """How many constraints a unique key lacks."""
        from reconciler.systems.postgres.structure import lacking

        source = found.intent.finds
        assert isinstance(source, Duplicates)
        session, catalog = self.world.session(connection), self.world.catalog(connection)
        return min(1, len(lacking(session, catalog, found.intent, source, 0).after))

    def write_findings(self, folder: Path) -> tuple[Path, ...]:
        """The keys of what was found, one file a kind of finding."""
        from reconciler.systems.postgres.findings import write_findings

        keys = [(self.world.session(connection), found) for connection, found in self._keys()]
        paths = write_findings(self.intents(), keys, folder)
        if self.prefixes and not self.intents():
            for path in paths:
                if path.stem != "duplicates":
                    path.unlink()
            paths = tuple(path for path in paths if path.stem == "duplicates")
        for n, (_, it) in enumerate(self.prefixes):
            from reconciler.systems.postgres.described_steps import write_object_findings

            made = write_object_findings(self.world.session(it.intent.connection), it, folder, fresh=not n, begun=paths)
            paths = tuple(dict.fromkeys((*paths, *made)))
        for path in paths:
            if path.stem not in ("missing", "changed", "extra"):
                continue
            with path.open("a", encoding="utf-8", newline="") as file:
                out = csv.writer(file, lineterminator="\n")
                for it in self.records:
                    keys = {"missing": it.creates, "changed": it.updates, "extra": it.deletes}[path.stem]
                    out.writerows((it.wanted.address, it.wanted.collection, key) for key in sorted(keys))
        if self.processes:
            from reconciler.kinds.processes import write_pending

            paths = (*paths, write_pending(self.world, self.processes, folder))
        return paths

    def extract(self, folder: Path) -> tuple[str, ...]:
        """Save what the sources hold."""
        from reconciler.systems.postgres.extract import extract_rows

        folder.mkdir(parents=True, exist_ok=True)
        said = extract_rows(self.intents(), folder)
        if self.records:
            from reconciler.kinds.pds_records import extract_records

            said += extract_records(self.world, self.records, folder)
        return (*said, *(f"not saved: {it.address}, for {it.reason}" for it in self._uncounted()))

"""`sql_objects`: a file of CREATE statements, beside what the database has.

In: the resources of the spec that are such files. Out: what is found for each, compared per database.
Nothing is decided here about single objects; only which statements are meant, on which connection.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.spec import SqlObjects
from reconciler.spec.credentials import find as find_credential
from reconciler.systems.postgres.object_diff import Declared, ObjectsFound, compare


def find_objects(world: World, resources: Mapping[str, SqlObjects]) -> list[ObjectsFound]:
    """Every resource of this kind, in order; to be called before writes are forbidden."""
    by_connection: dict[str, list[Declared]] = {}
    for address, resource in resources.items():
        file = world.spec.objects_file(address.partition(".")[2])
        declared = Declared(
            address=address,
            connection=resource.on,
            file=resource.file,
            statements=file.statements,
            place=file.place,
            replace=resource.replace,
            protect=resource.protect,
        )
        by_connection.setdefault(resource.on, []).append(declared)
    found = [it for name, members in sorted(by_connection.items()) for it in compare(world.session(name), members)]
    for it in found:
        _refuse_credentials(it)
    return sorted(found, key=lambda it: it.declared.address)


def _refuse_credentials(found: ObjectsFound) -> None:
    """A definition that is there goes into the plan as it is; what the file says was looked at with the spec."""
    for change in found.changes:
        if change.before and (credential := find_credential(str(change.before["sql"]))):
            raise ReconcilerError(
                f"{found.declared.address}: {change.kind} {change.name} as {found.declared.connection} has it holds {credential}",
                why="a plan holds what was there before, and is reviewed",
                todo="replace it by hand, and the credential too: it may have been read",
            )


def created_tables(objects: list[ObjectsFound]) -> dict[tuple[str, TableName], str]:
    """The tables that come to be, by connection and name, each with the resource that creates it."""
    return {
        (it.declared.connection, TableName.parse(name)): it.declared.address for it in objects for name in it.tables()
    }

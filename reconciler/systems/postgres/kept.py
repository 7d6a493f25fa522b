"""The objects that audits and guards keep in a database: what is there, in the server's own words, and how it is brought about.

In: an object's kind and name as a change's key spells them. Out: its image now, which is compared as text with the planned one.
Invariant: the words compared never depend on who asks; a log that holds records is left unless the plan says that they go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import LiteralString

from reconciler.plan.kept import KEPT, MODES, grants_of, text_of
from reconciler.plan.names import split_dotted
from reconciler.plan.statements import one_statement
from reconciler.plan.step import Image
from reconciler.systems.postgres import routines
from reconciler.systems.postgres.session import Composable, Row, Session, ident, join, lit, q, raw

LOG_COLUMNS = {
    "id": "bigint",
    "tx_id": "bigint",
    "statement_at": "timestamp with time zone",
    "table_schema": "text",
    "table_name": "text",
    "operation": "text",
    "role": "text",
    "application_name": "text",
    "client_addr": "inet",
    "query": "text",
    "key": "jsonb",
    "old": "jsonb",
    "new": "jsonb",
    "plan_id": "text",
    "allowed": "text",
}
"""What a record holds; `allowed` is the reason that was given to pass a guard."""
NOT_NULL = frozenset({"id", "tx_id", "statement_at", "table_schema", "table_name", "operation", "role"})
PARTED = "RANGE (statement_at)"
_WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_STATES = {word: letter for letter, word in MODES.items()}
_ENABLE: dict[str, LiteralString] = {
    "O": "ENABLE TRIGGER", "D": "DISABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER",
}  # fmt: skip


@contextlib.contextmanager
def qualified(session: Session) -> Generator[None]:
    """The server writes every name with its schema; as before afterwards."""
    before = session.value("SELECT current_setting('search_path')")
    session.run("SELECT set_config('search_path', '', true)")
    yield
    session.run("SELECT set_config('search_path', %s, true)", (before,))


def image_now(session: Session, kind: str, name: str) -> Image | None:
    """What is there; None where nothing is."""
    with qualified(session):
        match KEPT[kind]:
            case "function":
                return _function(session, name)
            case "trigger":
                return _trigger(session, name)
            case "index":
                return _index(session, name)
            case _:
                return _log(session, name) if kind == "audit log" else _partition(session, name)


class KeptKind:
    """One of the kinds, as those of `objects.py` are."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def now(self, session: Session, name: str) -> str | None:
        image = image_now(session, self.kind, name)
        return None if image is None else text_of(image)

    def unlike(self, session: Session, name: str, now: str, sql: str) -> str | None:
        del session, name
        return None if now == sql else "it is another"

    def spelled(self, session: Session, sql: str) -> str:
        del session
        return sql

    def hold(self, session: Session, name: str) -> None:
        match KEPT[self.kind]:
            case "function":
                routines.hold(session, name)
            case "trigger":
                session.run(q("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", ident(*split_dotted(name)[:2])))
            case "table":
                session.run(q("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", ident(*split_dotted(name))))
            case _:
                pass

    def in_use(self, session: Session, name: str) -> str | None:
        del session, name
        return None

    def drop(self, session: Session, name: str) -> None:
        match KEPT[self.kind]:
            case "function":
                routines.drop(session, name)
            case "trigger":
                table, trigger = split_dotted(name)[:2], split_dotted(name)[2]
                session.run(q("DROP TRIGGER {} ON {}", ident(trigger), ident(*table)))
            case "index":
                session.run(q("DROP INDEX {}", ident(*split_dotted(name))))
            case _:
                session.run(q("DROP TABLE {}", ident(*split_dotted(name))))

    def make(self, session: Session, name: str, now: Image | None, image: Image) -> None:
        """Bring the object from what it is to what the image says."""
        sql = str(image["sql"])
        again = now is None or now["sql"] != sql
        match KEPT[self.kind]:
            case "function":
                if again:
                    session.single(one_statement(sql).replacing())
                _grant(
                    session,
                    q("FUNCTION {}()", ident(*split_dotted(name.removesuffix("()")))),
                    name,
                    image,
                    function=True,
                )
            case "trigger":
                table, trigger = split_dotted(name)[:2], split_dotted(name)[2]
                if again:
                    session.single(one_statement(sql).replacing())
                letter = _STATES[str(image.get("enabled", ""))]
                session.run(q("ALTER TABLE ONLY {} {} {}", ident(*table), raw(_ENABLE[letter]), ident(trigger)))
            case "index":
                if now is not None:
                    self.drop(session, name)
                session.single(sql)
            case _:
                if now is None and self.kind == "audit partition":
                    _make_partition(session, name, sql)
                elif now is None:
                    session.single(sql)
                _grant(session, q("TABLE {}", ident(*split_dotted(name))), name, image, function=False)

    def left(self, session: Session, name: str, *, last: bool = False) -> str | None:
        """Why it is left where it is to be dropped; None where it is not. At `last` nothing may write to it any more."""
        log = name if self.kind == "audit log" else self._log_of(session, name)
        if log is None or session.value("SELECT to_regclass(%s)", (log,)) is None:
            return None
        if last and self.kind != "audit index" and (users := writers(session, log)):
            return f"{log} is left: {users[0]} writes to it"
        if not session.value(q("SELECT EXISTS (SELECT FROM {})", ident(*split_dotted(log)))):
            return None
        return f"{log} holds records and is left"

    def _log_of(self, session: Session, name: str) -> str | None:
        query = {
            "audit partition": "SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = to_regclass(%s)",
            "audit index": "SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
        }.get(self.kind)
        if query is None:
            return None
        rows = session.rows(
            q("SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
              " WHERE c.oid = ({})", raw(query)), (name,)
        )  # fmt: skip
        return rows[0][0] if rows else None


def writers(session: Session, log: str) -> list[str]:
    """The functions of audits that write to a log."""
    into = ident(*split_dotted(log)).as_string(session.connection)
    rows = session.rows(
        "SELECT format('%%I.%%I()', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE starts_with(p.proname, 'reconciler_audit_') AND position(%s IN p.prosrc) > 0 ORDER BY 1",
        (f"INSERT INTO {into} ",),
    )
    return [name for (name,) in rows]


KEPT_KINDS = {kind: KeptKind(kind) for kind in KEPT}


def _image(sql: str, grants: Sequence[Row] = (), enabled: str = "") -> Image:
    image: dict[str, object] = {"sql": sql}
    if enabled:
        image["enabled"] = enabled
    if grants:
        image["grants"] = [list(pair) for pair in grants]
    return image


def _function(session: Session, name: str) -> Image | None:
    found = routines.find(session, name)
    if found is None:
        return None
    acl: LiteralString = "coalesce(o.proacl, acldefault('f', o.proowner))"
    grants = _grants(
        session, q("pg_proc o WHERE o.oid = to_regprocedure({})", lit(name)), raw(acl), "o.proowner", ("EXECUTE",)
    )
    return _image(found.definition.rstrip("\n"), grants)


def _trigger(session: Session, name: str) -> Image | None:
    rows = session.rows(
        "SELECT pg_get_triggerdef(t.oid), t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND t.tgname = %s"
        " AND NOT t.tgisinternal",
        split_dotted(name),
    )
    return _image(rows[0][0], enabled=MODES[rows[0][1]]) if rows else None


def _index(session: Session, name: str) -> Image | None:
    rows = session.rows(
        "SELECT pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
        (name,),
    )
    if not rows:
        return None
    return _image(rows[0][0].replace(" ON ONLY ", " ON ", 1), enabled="" if rows[0][1] else "invalid")


def _log(session: Session, name: str) -> Image | None:
    """Of the columns of a log only those that a record has; more of them do no harm."""
    rows = session.rows(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text FROM pg_attribute a"
        " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped",
        (name,),
    )
    if not rows:
        return None
    there = {row[0]: row for row in rows}
    parted = session.value("SELECT coalesce(pg_get_partkeydef(to_regclass(%s)), '')", (name,))
    sql = create_log(name, {c: _column(*there[c][1:]) for c in LOG_COLUMNS if c in there}, parted)
    return _image(sql, _table_grants(session, name))


def _column(type_: str, not_null: bool, identity: str) -> str:
    how = {"a": " GENERATED ALWAYS AS IDENTITY", "d": " GENERATED BY DEFAULT AS IDENTITY"}.get(identity, "")
    return type_ + (how or (" NOT NULL" if not_null else ""))


def create_log(name: str, columns: dict[str, str], parted: str) -> str:
    """The statement that makes a log of that name, as the server spells it."""
    listed = ",\n".join(f"  {column} {type_}" for column, type_ in columns.items())
    return f"CREATE TABLE {name} (\n{listed}\n)" + (f" PARTITION BY {parted}" if parted else "")


def log_columns() -> dict[str, str]:
    """The columns as they are to be."""
    return {c: _column(type_, c in NOT_NULL, "a" if c == "id" else "") for c, type_ in LOG_COLUMNS.items()}


def _partition(session: Session, name: str) -> Image | None:
    rows = session.rows(
        "SELECT format('CREATE TABLE %%I.%%I PARTITION OF %%I.%%I %%s', n.nspname, c.relname, pn.nspname, p.relname,"
        " pg_get_expr(c.relpartbound, c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class p ON p.oid = i.inhparent"
        " JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE c.oid = to_regclass(%s) AND c.relispartition",
        (name,),
    )
    if rows:
        return _image(rows[0][0], _table_grants(session, name))
    there = session.value("SELECT to_regclass(%s)", (name,))
    return None if there is None else _image(f"-- another table of this name: {name}")


def _table_grants(session: Session, name: str) -> list[Row]:
    acl: LiteralString = "coalesce(o.relacl, acldefault('r', o.relowner))"
    return _grants(session, q("pg_class o WHERE o.oid = to_regclass({})", lit(name)), raw(acl), "o.relowner", _WRITES)


def _grants(
    session: Session, source: Composable, acl: Composable, owner: LiteralString, kinds: Sequence[str]
) -> list[Row]:
    """Rights that others than the owner have, of those that would let them write."""
    return session.rows(
        q("SELECT r.rolname::text, x.privilege_type FROM (SELECT {acl} AS acl, {owner} AS owner FROM {source}) a"
          " CROSS JOIN aclexplode(a.acl) x LEFT JOIN pg_roles r ON r.oid = x.grantee"
          " WHERE x.grantee <> a.owner AND x.privilege_type IN ({kinds}) GROUP BY 1, 2 ORDER BY 1 NULLS FIRST, 2",
          acl=acl, owner=raw(owner), source=source, kinds=join([lit(kind) for kind in kinds]))
    )  # fmt: skip


def _grant(session: Session, what: Composable, name: str, image: Image, *, function: bool) -> None:
    """Exactly the rights that the image names, and no other that lets somebody write."""
    wanted = grants_of(image)
    with qualified(session):
        now = (_function(session, name) or {}) if function else {"grants": _table_grants(session, name)}
    known = ("EXECUTE",) if function else _WRITES
    for role, privilege in grants_of(now):
        if (role, privilege) not in wanted:
            session.run(q("REVOKE {} ON {} FROM {}", raw(privilege), what, ident(role) if role else raw("PUBLIC")))
    for role, privilege in wanted:
        if privilege in known:
            session.run(q("GRANT {} ON {} TO {}", raw(privilege), what, ident(role) if role else raw("PUBLIC")))


def _make_partition(session: Session, name: str, sql: str) -> None:
    """A new partition; records that stand in the default one meanwhile move over."""
    table = one_statement(sql)
    log = session.value("SELECT substring(%s FROM ' PARTITION OF (.*?) (?:FOR VALUES|DEFAULT)')", (table.text,))
    bounds = session.one(
        "SELECT substring(%s FROM $$FROM \\('(.*?)'\\)$$), substring(%s FROM $$TO \\('(.*?)'\\)$$)", (sql, sql)
    )
    rest = session.rows(
        "SELECT n.nspname, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhparent = to_regclass(%s)"
        " AND pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'",
        (log,),
    )
    if not rest or bounds[0] is None:
        session.single(sql)
        return
    source = ident(*rest[0])
    session.run(q("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", source))
    within = q("statement_at >= {}::timestamptz AND statement_at < {}::timestamptz", lit(bounds[0]), lit(bounds[1]))
    session.run("DROP TABLE IF EXISTS pg_temp.rc_moved")
    session.run(q("CREATE TEMP TABLE rc_moved ON COMMIT DROP AS SELECT * FROM {} WHERE {}", source, within))
    session.run(q("DELETE FROM {} WHERE {}", source, within))
    session.single(sql)
    session.run(q("INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT * FROM pg_temp.rc_moved", ident(*split_dotted(name))))

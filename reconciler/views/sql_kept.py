"""Steps of audits and guards as blocks of a script for psql: each looks at what is there, word for word, before it does anything.

In: a change of an object that an audit or a guard keeps. Out: one DO block; it does nothing where it is so already and fails on drift.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.plan.kept import KEPT, MODES, grants_of, text_of
from reconciler.plan.names import split_dotted
from reconciler.plan.statements import one_statement
from reconciler.plan.step import Change, Image
from reconciler.views.sql_words import block, identifier, literal

_GRANTS = """\
coalesce((SELECT string_agg(E'\\n-- GRANT ' || x.privilege_type || ' TO ' || coalesce(r.rolname, 'PUBLIC'), ''
    ORDER BY r.rolname NULLS FIRST, x.privilege_type) FROM aclexplode({acl}) x LEFT JOIN pg_roles r ON r.oid = x.grantee
    WHERE x.grantee <> {owner} AND x.privilege_type IN ({kinds})), '')"""
_WRITES = "'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'"
_TABLE_GRANTS = _GRANTS.format(acl="coalesce(c.relacl, acldefault('r', c.relowner))", owner="c.relowner", kinds=_WRITES)
_MODES = " ".join(f"WHEN '{letter}' THEN E'\\n-- {word}'" for letter, word in MODES.items() if word)
_NOW: Mapping[str, str] = {
    "function": "(SELECT rtrim(pg_get_functiondef(p.oid), E'\\n') || "
    + _GRANTS.format(acl="coalesce(p.proacl, acldefault('f', p.proowner))", owner="p.proowner", kinds="'EXECUTE'")
    + " FROM pg_proc p WHERE p.oid = to_regprocedure({name}))",
    "trigger": f"(SELECT pg_get_triggerdef(t.oid) || CASE t.tgenabled {_MODES} ELSE '' END FROM pg_trigger t"
    " WHERE t.tgrelid = to_regclass({on}) AND t.tgname = {own} AND NOT t.tgisinternal)",
    "index": "(SELECT regexp_replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') || CASE WHEN i.indisvalid THEN ''"
    " ELSE E'\\n-- invalid' END FROM pg_index i WHERE i.indexrelid = to_regclass({name}))",
    "partition": "(SELECT format('CREATE TABLE %I.%I PARTITION OF %I.%I %s', n.nspname, c.relname, pn.nspname, p.relname,"
    f" pg_get_expr(c.relpartbound, c.oid)) || {_TABLE_GRANTS} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace"
    " WHERE c.oid = to_regclass({name}))",
    "log": "(SELECT E'CREATE TABLE ' || {name} || E' (\\n' || (SELECT string_agg(format('  %s %s%s', a.attname,"
    " format_type(a.atttypid, a.atttypmod), CASE WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY'"
    " WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END), E',\\n' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid"
    " AND a.attnum > 0 AND NOT a.attisdropped) || E'\\n)' || coalesce(' PARTITION BY ' || pg_get_partkeydef(c.oid), '')"
    f" || {_TABLE_GRANTS} FROM pg_class c WHERE c.oid = to_regclass({{name}}))",
}
_ENABLE = {"": "ENABLE", "disabled": "DISABLE", "always": "ENABLE ALWAYS", "replica": "ENABLE REPLICA"}
_HEAD = """\
searched := current_setting('search_path');
PERFORM set_config('search_path', '', true);
was := {now};
"""
_BODY = """\
IF was IS DISTINCT FROM {after} THEN
  IF was IS DISTINCT FROM {before} THEN
    RAISE EXCEPTION USING MESSAGE = {drift}, DETAIL = coalesce(was, 'it is not there'), HINT = 'Plan again and have the new plan reviewed.';
  END IF;
{do}
END IF;
PERFORM set_config('search_path', searched, true);"""
# Rights that others got by default, or have had, go; those that the plan names stay.
_REVOKE = """\
  FOR one IN SELECT x.privilege_type AS privilege, coalesce(quote_ident(r.rolname), 'PUBLIC') AS role
    FROM {of} CROSS JOIN aclexplode({acl}) x LEFT JOIN pg_roles r ON r.oid = x.grantee
    WHERE x.grantee <> {owner} AND x.privilege_type IN ({kinds}) LOOP
    EXECUTE format('REVOKE %s ON {word} FROM %s', one.privilege, one.role);
  END LOOP;
"""
_MOVE = """\
  SELECT c.oid::regclass::text INTO rest FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass({log}) AND pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT';
  DROP TABLE IF EXISTS pg_temp.reconciler_moved;
  IF rest IS NOT NULL THEN
    EXECUTE format('CREATE TEMP TABLE reconciler_moved ON COMMIT DROP AS SELECT * FROM %s WHERE statement_at >= %L AND statement_at < %L',
      rest, {low}, {high});
    EXECUTE format('DELETE FROM %s WHERE statement_at >= %L AND statement_at < %L', rest, {low}, {high});
  END IF;
  EXECUTE {sql};
  IF rest IS NOT NULL THEN
    INSERT INTO {name} OVERRIDING SYSTEM VALUE SELECT * FROM pg_temp.reconciler_moved;
  END IF;
"""


def carry_out(change: Change, loses: str) -> str:
    """The block for one change."""
    kind, name = change.key
    now = _now(kind, name)
    before, after = ("NULL" if image is None else literal(text_of(image)) for image in (change.before, change.after))
    drift = literal(f"drift: {kind} {name} is not what it was when the plan was made; nothing was kept")
    do = _make(kind, name, change.before, change.after) if change.after is not None else _drop(kind, name, loses)
    body = _HEAD.format(now=now) + _BODY.format(after=after, before=before, drift=drift, do=do.rstrip("\n"))
    return block(body, declare="searched text; was text; rest text; one record;")


def _now(kind: str, name: str) -> str:
    word = kind.rpartition(" ")[2]
    parts = split_dotted(name.removesuffix("()"))
    on = ".".join(map(identifier, parts[:2]))
    return _NOW[word].format(name=literal(name), on=literal(on), own=literal(parts[-1]))


def _spelled(name: str) -> str:
    return ".".join(map(identifier, split_dotted(name.removesuffix("()"))))


def _make(kind: str, name: str, before: Image | None, after: Image) -> str:
    statement = one_statement(str(after["sql"]))
    place = _spelled(name)
    again = before is None or before["sql"] != after["sql"]
    match KEPT[kind]:
        case "trigger":
            table, trigger = place.rpartition(".")[0], identifier(split_dotted(name)[2])
            enable = _ENABLE[str(after.get("enabled", ""))]
            return (
                f"  EXECUTE {literal(statement.replacing())};\n  ALTER TABLE ONLY {table} {enable} TRIGGER {trigger};"
            )
        case "index":
            return (f"  DROP INDEX {place};\n" if before else "") + f"  EXECUTE {literal(statement.text)};"
        case "function":
            word, of, acl, owner, kinds = (
                f"FUNCTION {place}()", f"pg_proc p JOIN (SELECT) s ON p.oid = to_regprocedure({literal(name)})",
                "coalesce(p.proacl, acldefault('f', p.proowner))", "p.proowner", "'EXECUTE'",
            )  # fmt: skip
            made = f"  EXECUTE {literal(statement.replacing())};\n" if again else ""
        case _:
            word, of, acl, owner, kinds = (
                f"TABLE {place}", f"pg_class c JOIN (SELECT) s ON c.oid = to_regclass({literal(name)})",
                "coalesce(c.relacl, acldefault('r', c.relowner))", "c.relowner", _WRITES,
            )  # fmt: skip
            made = "" if before else _table(kind, place, statement.text)
    grants = "".join(
        f"  GRANT {privilege} ON {word} TO {identifier(role) if role else 'PUBLIC'};\n"
        for role, privilege in grants_of(after)
    )
    quoted = word.replace("'", "''").replace("%", "%%")
    return made + _REVOKE.format(of=of, acl=acl, owner=owner, kinds=kinds, word=quoted) + grants


def _table(kind: str, place: str, sql: str) -> str:
    if kind == "audit log" or " FOR VALUES FROM ('" not in sql:
        return f"  EXECUTE {literal(sql)};\n"
    head, _, bounds = sql.rpartition(" FOR VALUES FROM ('")
    low, _, high = bounds.removesuffix("')").partition("') TO ('")
    log = head.partition(" PARTITION OF ")[2]
    return _MOVE.format(log=literal(log), low=literal(low), high=literal(high), sql=literal(sql), name=place)


def _drop(kind: str, name: str, loses: str) -> str:
    place = _spelled(name)
    match KEPT[kind]:
        case "trigger":
            table, trigger = place.rpartition(".")[0], identifier(split_dotted(name)[2])
            return f"  DROP TRIGGER {trigger} ON {table};"
        case "function":
            return f"  DROP FUNCTION {place}();"
        case word:
            drop = f"  DROP {'INDEX' if word == 'index' else 'TABLE'} {place};"
    if loses:
        return drop
    log = {
        "audit log": f"to_regclass({literal(name)})",
        "audit partition": f"(SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = to_regclass({literal(name)}))",
        "audit index": f"(SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = to_regclass({literal(name)}))",
    }[kind]
    return (
        f"  EXECUTE format('SELECT EXISTS (SELECT FROM %s) AS held', {log}::regclass) INTO one;\n"
        f"  IF one.held THEN\n    RAISE NOTICE USING MESSAGE = {literal(f'{name} is left: its log holds records')};\n  ELSE\n  {drop}\n  END IF;"
    )

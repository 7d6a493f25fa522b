"""Steps of objects as blocks of a script for psql: each looks at what is there before it does anything.

In: a change of an object. Out: one DO block that creates, alters or drops it, does nothing where that is so already, and fails on drift.
Whether a routine is as planned is told by replacing it with what was planned, in the same transaction, and looking whether that changed it.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.plan.kept import KEPT
from reconciler.plan.lexis import Malformed
from reconciler.plan.names import split_dotted
from reconciler.plan.statements import ROUTINES, one_statement
from reconciler.plan.step import Change, Image
from reconciler.views import sql_kept
from reconciler.views.escape import has_unseen
from reconciler.views.sql_words import block, identifier, literal

_PUBLIC_FIRST = """\
searched := current_setting('search_path');
PERFORM set_config('search_path', (SELECT string_agg(s.name, ', ' ORDER BY s.name <> 'public', s.name COLLATE "C")
  FROM (SELECT DISTINCT quote_ident(n.nspname) AS name FROM pg_namespace n WHERE n.nspname = 'public'
    OR (n.nspname <> 'pg_catalog' AND n.oid IN (SELECT extnamespace FROM pg_extension))) s), true);
"""
_DECLARE = "searched text; was text; made text;"
_LOOKED_FOR: Mapping[str, str] = {
    "function": "pg_get_functiondef(to_regprocedure({0})::oid)",
    "procedure": "pg_get_functiondef(to_regprocedure({0})::oid)",
    **dict.fromkeys(("table", "view", "materialized view", "sequence", "index"), "to_regclass({0})::text"),
    **dict.fromkeys(("type", "domain"), "to_regtype({0})::text"),
    "schema": "to_regnamespace({0})::text",
    "extension": "(SELECT extname::text FROM pg_extension WHERE extname = {1})",
    "trigger": "(SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass({0}) AND tgname = {1})",
}
# A type in the name of a routine that does not exist is an error before PostgreSQL 16.
_LOOK = """\
BEGIN
  was := {look};
EXCEPTION WHEN undefined_object OR undefined_table OR invalid_schema_name THEN
  was := NULL;
END;
"""


def refusal(change: Change) -> str | None:
    """Why no script can be written for the change."""
    match change.key:
        case (kind, _) if kind in _LOOKED_FOR or kind in KEPT:
            pass
        case _:
            return f"{' '.join(change.key)} is nothing that a script can look for."
    try:
        for image in (change.before, change.after):
            if image is not None:
                one_statement(_sql(image))
        split_dotted(change.key[1].partition("(")[0] if change.key[0] in ROUTINES else change.key[1].removesuffix("()"))
    except (Malformed, ValueError) as error:
        return f"{' '.join(change.key)}: {error}."
    return None


def carry_out(change: Change, loses: str = "") -> str:
    """The block for one change."""
    kind, name = change.key
    if kind in KEPT:
        return sql_kept.carry_out(change, loses)
    look = _look(kind, name)
    body = _PUBLIC_FIRST + _LOOK.format(look=look)
    routine = kind in ROUTINES
    if change.after is not None:
        body += _bring(change, look) if routine else _create(change.after)
    else:
        body += _drop(kind, name, look, change.before)
    return block(body + "PERFORM set_config('search_path', searched, true);", declare=_DECLARE)


def _look(kind: str, name: str) -> str:
    if kind == "trigger":
        schema, table, trigger = split_dotted(name)
        return _LOOKED_FOR[kind].format(literal(f"{identifier(schema)}.{identifier(table)}"), literal(trigger))
    plain = split_dotted(name)[0] if kind == "extension" else ""
    return _LOOKED_FOR[kind].format(literal(name), literal(plain))


def _create(after: Image) -> str:
    return f"IF was IS NULL THEN\n  EXECUTE {_text(_sql(after))};\nEND IF;\n"


def _bring(change: Change, look: str) -> str:
    """A routine to what it should be; what it was must be what the plan saw, or what it is to be."""
    assert change.after is not None
    what = " ".join(change.key)
    replacing = _text(one_statement(_sql(change.after)).replacing())
    if change.before is None:
        wrong = _drift(f"{what}: planned absent, found another definition")
        return f"EXECUTE {replacing};\nmade := {look};\nIF was <> made THEN\n  {wrong}\nEND IF;\n"
    gone = _drift(f"{what}: planned to be there, found no such {change.key[0]}")
    wrong = _drift(f"{what}: its definition is not the planned one")
    before = _text(one_statement(_sql(change.before)).replacing())
    return (
        f"IF was IS NULL THEN\n  {gone}\nEND IF;\nEXECUTE {replacing};\nmade := {look};\nIF was <> made THEN\n"
        f"  EXECUTE {before};\n  IF was IS DISTINCT FROM {look} THEN\n    {wrong}\n  END IF;\n  EXECUTE {replacing};\nEND IF;\n"
    )


def _drop(kind: str, name: str, look: str, before: Image | None) -> str:
    what = f"{kind} {name}"
    guard, spelled = "", ".".join(map(identifier, split_dotted(name))) if kind not in ROUTINES else ""
    drop = f"DROP {kind.upper()} {spelled};"
    if kind in ROUTINES:
        wrong = _drift(f"{what}: its definition is not the planned one")
        replacing = _text(one_statement(_sql(before or {})).replacing())
        guard = f"  EXECUTE {replacing};\n  IF was IS DISTINCT FROM {look} THEN\n    {wrong}\n  END IF;\n"
        drop = f"EXECUTE 'DROP ROUTINE ' || to_regprocedure({literal(name)})::text;"
    elif kind == "trigger":
        schema, table, trigger = map(identifier, split_dotted(name))
        drop = f"DROP TRIGGER {trigger} ON {schema}.{table};"
    elif kind == "table":
        rows = _drift(f"{what}: planned to go while it is empty, found rows")
        guard = f"  LOCK TABLE {spelled} IN ACCESS EXCLUSIVE MODE;\n  IF EXISTS (SELECT FROM {spelled}) THEN\n    {rows}\n  END IF;\n"
    return f"IF was IS NOT NULL THEN\n{guard}  {drop}\nEND IF;\n"


def _drift(said: str) -> str:
    return (
        f"RAISE EXCEPTION USING MESSAGE = {literal(f'drift: {said}; nothing was kept')},"
        " HINT = 'Plan again and have the new plan reviewed.';"
    )


def _sql(image: Image) -> str:
    return str(image.get("sql", ""))


def _text(statement: str) -> str:
    """A statement as a string: readable, unless something in it could not be seen."""
    if has_unseen(statement.replace("\n", "").replace("\t", "")):
        return literal(statement)
    number = 0
    while (tag := f"$sql{number or ''}$") in f"{statement}$":
        number += 1
    return f"{tag}{statement}{tag}"

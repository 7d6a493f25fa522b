"""The parts of a script that do not depend on a step's rows: settings, tables, guards, the report at the end."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.views.sql_statements import CHANGES, Staged
from reconciler.views.sql_words import array, block, literal, regclass

STEPS = "pg_temp.reconciler_steps"
TRIGGERS = "pg_temp.reconciler_triggers"
_NAMED = 20

_SETTINGS = """\
SET LOCAL standard_conforming_strings = on;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, MDY';
SET LOCAL IntervalStyle = 'postgres';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex';
SET LOCAL xmloption = 'content';
SET LOCAL lc_monetary = 'C';
SET LOCAL row_security = off;
SET LOCAL lock_timeout = '10s';"""

# Types in a plan are spelled for the schemas that are searched while planning.
_SEARCH_PATH = """\
PERFORM set_config('search_path', (
  SELECT string_agg(DISTINCT quote_ident(n.nspname), ', ' ORDER BY quote_ident(n.nspname)) FROM pg_namespace n
  WHERE n.nspname = 'public' OR n.oid IN (SELECT extnamespace FROM pg_extension)), true);"""

_FINGERPRINT = """\
IF (SELECT left(encode(sha256(convert_to(c.system_identifier::text, 'UTF8') || '\\x00'::bytea
      || convert_to(p.timeline_id::text, 'UTF8') || '\\x00'::bytea
      || convert_to(current_database(), 'UTF8')), 'hex'), 16)
    FROM pg_control_system() c, pg_control_checkpoint() p) <> {expected} THEN
  RAISE EXCEPTION USING MESSAGE = {said};
END IF;"""

_TABLES = """\
CREATE TEMP TABLE reconciler_steps (
  step int PRIMARY KEY, id text, verb text, target regclass, key text[], joined text) ON COMMIT DROP;
CREATE TEMP TABLE reconciler_changes (
  step int, n int, key jsonb, before jsonb, after jsonb, found jsonb, state text, PRIMARY KEY (step, n)) ON COMMIT DROP;
"""

_REFUSE = f"""\
SELECT count(*), string_agg(format('  %s %s: planned %s, found %s', s.id, c.key, {{planned}}, {{found}}),
  E'\\n' ORDER BY c.step, c.n) FILTER (WHERE c.place <= {_NAMED}) INTO held, named
FROM (SELECT c.*, row_number() OVER (ORDER BY c.step, c.n) AS place
  FROM {CHANGES} c JOIN {STEPS} s USING (step) WHERE {{which}}) c JOIN {STEPS} s USING (step);
IF held > 0 THEN
  RAISE EXCEPTION USING MESSAGE = format({{message}}, held), DETAIL = named, HINT = {{hint}};
END IF;"""

# Each foreign key that would take rows of another table along, and the rows it would take but for those the plan lists.
_UNLISTED = f"""\
FOR one IN
  SELECT s.step, s.id, s.target, s.joined, k.conname, k.conrelid, k.conrelid::regclass AS child,
    (SELECT string_agg(format('h.%I = t.%I', h.attname, t.attname), ' AND ' ORDER BY u.at)
     FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(child, parent, at)
     JOIN pg_attribute h ON h.attrelid = k.conrelid AND h.attnum = u.child
     JOIN pg_attribute t ON t.attrelid = k.confrelid AND t.attnum = u.parent) AS pointing,
    (SELECT array_agg(h.attname::text) FROM pg_attribute h
     WHERE h.attrelid = k.conrelid AND h.attnum = ANY (k.conkey)) AS columns
  FROM {STEPS} s JOIN pg_constraint k ON k.confrelid = s.target
  WHERE s.verb = 'delete' AND k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd') ORDER BY s.step, k.conname
LOOP
  SELECT coalesce(string_agg(format(
    ' AND NOT EXISTS (SELECT FROM {CHANGES} l WHERE l.step = %s AND l.key = jsonb_build_array(%s)%s)', o.step,
    (SELECT string_agg(format('h.%I::text', name), ', ' ORDER BY at) FROM unnest(o.key) WITH ORDINALITY AS u(name, at)),
    CASE o.verb WHEN 'update' THEN format(' AND l.after ?| %L::text[]', one.columns) END), ''), '')
  INTO listed FROM {STEPS} o WHERE o.target = one.conrelid AND o.verb IN ('update', 'delete');
  EXECUTE format(
    'SELECT count(*), min(c.key::text) FROM {CHANGES} c JOIN %s t ON %s JOIN %s h ON %s'
    ' WHERE c.step = %s AND c.state = ''todo''%s',
    one.target, one.joined, one.child, one.pointing, one.step, listed) INTO held, example;
  IF held > 0 THEN
    RAISE EXCEPTION USING
      MESSAGE = format('drift: rows of %s that would go or change with %s by constraint %s and are not in the plan: %s;'
        ' nothing was kept', one.child, one.id, one.conname, held),
      DETAIL = format('They point at %s, for example.', example),
      HINT = 'Plan again and have the new plan reviewed.';
  END IF;
END LOOP;"""

_TRIGGERS_OFF = f"""\
CREATE TEMP TABLE IF NOT EXISTS reconciler_triggers (target regclass, name text, mode "char") ON COMMIT DROP;
INSERT INTO {TRIGGERS} SELECT tgrelid, tgname, tgenabled FROM pg_trigger
WHERE tgrelid = {{value}} AND NOT tgisinternal AND tgenabled <> 'D' AND tgname !~ '^reconciler_(audit|guard)_';
{{disable}}"""

_DISABLE = f"""\
FOR one IN SELECT * FROM {TRIGGERS} WHERE target = {{value}} LOOP
  EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', one.target, one.name);
END LOOP;"""

_TRIGGERS_ON = f"""\
FOR one IN SELECT * FROM {TRIGGERS} ORDER BY target::text, name LOOP
  EXECUTE format('ALTER TABLE %s ENABLE %sTRIGGER %I', one.target,
    CASE one.mode WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' END, one.name);
END LOOP;"""

_REPORT = f"""\
SELECT s.id AS step, count(*) FILTER (WHERE c.state = 'todo') AS applied,
  count(*) FILTER (WHERE c.state = 'already') AS already
FROM {STEPS} s JOIN {CHANGES} c USING (step) GROUP BY s.step, s.id ORDER BY s.step;"""


def settings(plan_id: str) -> str:
    """What values and names mean must not depend on who runs the script."""
    return f"{_SETTINGS}\nSET LOCAL application_name = {literal(f'reconciler/{plan_id}')};\n{block(_SEARCH_PATH)}"


def fingerprint(connection: str, expected: str) -> str:
    """Refuse another database than the one the plan saw; a restored clone differs in its timeline alone."""
    said = literal(f"this is another database than the one the plan was made for ({connection})")
    return block(_FINGERPRINT.format(expected=literal(expected), said=said))


def tables(rows: Sequence[Staged]) -> str:
    """The temporary tables, and the steps under their numbers."""
    steps = ",\n".join(f"  {_step(staged)}" for staged in rows)
    return f"{_TABLES}INSERT INTO {STEPS} VALUES\n{steps};"


def _step(staged: Staged) -> str:
    names = (literal(staged.step.id), literal(staged.step.verb.value), regclass(staged.step.target))
    return f"({staged.number}, {', '.join(names)}, {array(map(literal, staged.step.key))}, {literal(staged.joined)})"


def refuse_drift() -> str:
    """Name each drifted thing, planned-before beside actual, and keep nothing."""
    reference = "coalesce(c.before, c.after)"
    return _refuse(
        which="c.state = 'drift'",
        planned=f"CASE s.verb WHEN 'insert' THEN 'absent' ELSE {_differing('c.before', reference)} END",
        found=f"CASE WHEN c.found IS NULL THEN 'no such row' ELSE {_differing('c.found', reference)} END",
        message="drift: planned changes that do not fit what is there: %s; nothing was kept",
        hint="Plan again and have the new plan reviewed.",
    )


def refuse_difference() -> str:
    """What a trigger still turns into something else is an error: the script keeps what was planned or nothing."""
    return _refuse(
        which="c.state = 'todo' AND CASE s.verb WHEN 'delete' THEN c.found IS NOT NULL"
        " ELSE (c.found @> c.after) IS NOT TRUE END",
        planned=f"CASE s.verb WHEN 'delete' THEN 'absent' ELSE {_differing('c.after', 'c.after')} END",
        found="CASE WHEN c.found IS NULL THEN 'no such row' WHEN s.verb = 'delete' THEN 'still there'"
        f" ELSE {_differing('c.found', 'c.after')} END",
        message="rows that are not as planned after writing them: %s; nothing was kept",
        hint="A trigger or a rule of the table changes them; see the notes of the plan.",
    )


def _differing(image: str, reference: str) -> str:
    """Of an image those members, as text, in which what was found is not like the reference."""
    return (
        f"(SELECT left(jsonb_object_agg(e.key, {image}->e.key)::text, 500) FROM jsonb_each({reference}) e"
        " WHERE c.found->e.key IS DISTINCT FROM e.value)"
    )


def _refuse(*, which: str, planned: str, found: str, message: str, hint: str) -> str:
    body = _REFUSE.format(which=which, planned=planned, found=found, message=literal(message), hint=literal(hint))
    return block(body, declare="held bigint; named text;")


def refuse_unlisted() -> str:
    """Rows that would go by CASCADE or be set by SET NULL and are not listed are drift."""
    return block(_UNLISTED, declare="one record; listed text; held bigint; example text;")


def triggers_off(target: str) -> str:
    """Keep a table's own triggers from firing, remembering the mode of each."""
    value = regclass(target)
    disable = block(_DISABLE.format(value=value), declare="one record;")
    return _TRIGGERS_OFF.format(value=value, disable=disable)


def triggers_on() -> str:
    """Every trigger as it was: ENABLE TRIGGER USER would also wake those that somebody had put to sleep."""
    return block(_TRIGGERS_ON, declare="one record;")


def report() -> str:
    """What was done, step by step."""
    return _REPORT

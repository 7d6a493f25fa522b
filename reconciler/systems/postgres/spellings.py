"""How rows spell the names of objects, and which objects a spec means: SQL made of string functions, for regular expressions are slow.

In: forms and patterns as the kind has parsed them. Out: expressions over a column's text or an object's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reconciler.systems.postgres.session import Composable, join, lit, q, raw

Piece = tuple[bool, str]
"""A piece of a form or template: whether it is a placeholder, and its text."""
Form = Sequence[Piece]
Match = tuple[tuple[bool, str], ...]
"""(includes, a suffix as `*.jpg` or a regular expression); the last that fits decides."""


def read_name(form: Form, bucket: str, value: Composable) -> Composable:
    """The object's name in a text of this form, NULL where it has another; {host} stands before {name}, if at all."""
    texts = [bucket if (open_, text) == (True, "bucket") else text for open_, text in form]
    names = [n for n, piece in enumerate(form) if piece == (True, "name")]
    hosts = [n for n, piece in enumerate(form) if piece == (True, "host")]
    tail = "".join(texts[names[0] + 1 :])
    conditions: list[Composable] = []
    rest = value
    begin = 0
    if hosts:
        head = "".join(texts[: hosts[0]])
        behind = q("substr({}, {})", value, lit(len(head) + 1))
        conditions += [q("starts_with({}, {})", value, lit(head)), q("split_part({}, '/', 1) <> ''", behind)]
        rest = q("substr({0}, length(split_part({0}, '/', 1)) + 1)", behind)
        begin = hosts[0] + 1
    head = "".join(texts[begin : names[0]])
    name = q("substr({}, {})", rest, lit(len(head) + 1)) if head else rest
    if head:
        conditions.append(q("starts_with({}, {})", rest, lit(head)))
    if tail:
        conditions.append(q("right({}, {}) = {}", name, lit(len(tail)), lit(tail)))
        name = q("left({0}, -{1})", name, lit(len(tail)))
    return q("CASE WHEN {} THEN nullif({}, '') END", join(conditions, " AND ") if conditions else raw("true"), name)


def spelled(form: Form, bucket: str, name: Composable) -> Composable:
    """An object's name as a row spells it; in an address a % of its own stands as %25, for it is read so."""
    name = q("replace({}, '%', '%25')", name) if is_url(form) else name
    return join([name if text == "name" else lit(bucket) if open_ else lit(text) for open_, text in form], " || ")


def is_url(form: Form) -> bool:
    return any(not open_ and "://" in text for open_, text in form)


def decoded(text: Composable) -> Composable:
    """The bytes that a text of a URL stands for, where some are written %XX."""
    return q(
        "CASE WHEN position('%' in {t}) = 0 THEN convert_to({t}, 'UTF8') ELSE (SELECT decode(string_agg(CASE WHEN length(p[1]) = 3 AND p[1] ~ '^%'"
        " THEN substr(p[1], 2) ELSE encode(convert_to(p[1], 'UTF8'), 'hex') END, '' ORDER BY at), 'hex')"
        " FROM regexp_matches({t}, '(%[0-9A-Fa-f]{{2}}|[^%]+|%)', 'g') WITH ORDINALITY AS x(p, at)) END", t=text
    )  # fmt: skip


def meant(name: Composable, prefix: str, match: Match) -> Composable:
    """Whether the spec speaks of the object of that name; the marks that the dashboard leaves in empty folders are no objects."""
    rest = q("substr({}, {})", name, lit(len(prefix) + 1)) if prefix else name
    verdict = raw("true" if not match or not match[0][0] else "false")
    for includes, pattern in match:
        suffix = re.fullmatch(r"\*(\.\w+)", pattern)
        fits = (
            q("right({}, {}) = {}", rest, lit(len(pattern) - 1), lit(suffix[1]))
            if suffix
            else q("{} ~ {}", rest, lit(pattern))
        )
        verdict = q("CASE WHEN {} THEN {} ELSE {} END", fits, raw("true" if includes else "false"), verdict)
    mark = q("{0} <> '.emptyFolderPlaceholder' AND right({0}, 24) <> '/.emptyFolderPlaceholder'", name)
    return q("(starts_with({}, {}) AND {} AND {})", name, lit(prefix), mark, verdict)


def nameable(name: Composable) -> Composable:
    """Whether an object can be given that name: what `checked_new` of the storages takes."""
    return q("({0} ~ {1} AND {0} !~ {2})", name, lit("^[A-Za-z0-9_/!.*'() &$@=;:+,?-]+$"), lit(r"(^|/)\.{0,2}(/|$)"))


def loose_stem(name: Composable) -> Composable:
    """The name without its ending, in small letters; of a file whose name begins with a dot, what stands before it: to hash only."""
    tail = q("split_part({}, '.', -1)", name)
    return q(
        "lower(CASE WHEN strpos({t}, '/') = 0 AND length({t}) < length({n}) THEN left({n}, -1 - length({t})) ELSE {n} END)",
        t=tail,
        n=name,
    )


def stem(name: Composable) -> Composable:
    """The name without its ending, in small letters."""
    tail = q("split_part({}, '.', -1)", name)
    return q("(CASE WHEN right('/' || {n}, length({t}) + 2) = '/.' || {t} THEN lower({n}) ELSE {loose} END COLLATE \"C\")", n=name, t=tail,
             loose=loose_stem(name))  # fmt: skip

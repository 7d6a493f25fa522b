"""What the spec says of objects and rows as SQL: templates filled, casts that cut nothing, signed URLs judged.

In: templates, types and columns. Out: expressions over the object `o`, or over what is given.
"""

from __future__ import annotations

import re
from typing import LiteralString

from reconciler.systems.postgres.session import Composable, join, lit, q, raw
from reconciler.systems.postgres.spellings import Piece


def why_invalid(url: Composable, path: Composable, until: int) -> Composable:
    """Why a signed URL will not do, NULL if it will; by what its token says of itself, with no signature proven.

    Each part is taken out once (OFFSET 0 keeps it so): payload of the token, its text, the time in it.
    """
    payload = q(
        "SELECT translate(split_part(split_part(split_part({}, 'token=', -1), '&', 1), '.', 2), '-_=', '+/') AS p OFFSET 0",
        url,
    )
    claims = q(
        "SELECT CASE WHEN p ~ '^[A-Za-z0-9+/]+$' AND length(p) % 4 <> 1 THEN encode(decode(rpad(p, (length(p) + 3) / 4 * 4, '='), 'base64'),"
        " 'escape') END AS c FROM ({}) a OFFSET 0", payload
    )  # fmt: skip
    expiry = q(
        "SELECT c, substring(split_part(c, '\"exp\":', 2) from '^[0-9]{{1,15}}') AS at FROM ({}) b OFFSET 0", claims
    )
    said = q("encode(convert_to(to_json({})::text, 'UTF8'), 'escape')", path)
    return q(
        "(CASE WHEN {u} IS NULL OR {u} = '' THEN 'no URL' ELSE (SELECT CASE WHEN at IS NULL THEN 'not a signed URL'"
        " WHEN position('\"url\":' || {said} in c) = 0 THEN 'for another path' WHEN at::int8 < {until} THEN 'expired or about to' END"
        " FROM ({expiry}) e) END)", u=url, said=said, until=lit(until), expiry=expiry
    )  # fmt: skip


_FIELDS: dict[str, LiteralString] = {
    "name": "o.name",
    "stem": "regexp_replace(regexp_replace(o.name, '^.*/', ''), '(.)\\.[^.]*$', '\\1')",
    "ext": "coalesce(substring(o.name from '[^/]\\.([^./]*)$'), '')",
    "folder": "coalesce(substring(o.name from '^(.*)/[^/]*$'), '')",
    "size": "o.size::text", "mime": "o.mime", "etag": "o.etag", "created_at": "o.created_at::text",
}  # fmt: skip


def filled(template: tuple[Piece, ...] | None) -> Composable:
    """A template's text for the object `o`; alone, a field that the object lacks is NULL."""
    if template is None:
        return raw("NULL::text")
    if len(template) == 1 and template[0][0]:
        return raw(_FIELDS[template[0][1]])
    return join(
        [q("coalesce({}, '')", raw(_FIELDS[text])) if open_ else lit(text) for open_, text in template] or [lit("")],
        " || ",
    )


def unbound(type_: str) -> Composable:
    """The type without its length: a cast to varchar(10) would cut what a row of that column refuses."""
    if '"' in type_ or "(" not in type_:
        return raw(type_)
    return raw(
        re.sub(
            r"^bit\b(?! varying)",
            "bit varying",
            re.sub(r"^character(?! varying)", "bpchar", re.sub(r"\([^)]*\)", "", type_)),
        )
    )

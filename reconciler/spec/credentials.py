"""Credentials that someone wrote into a spec: found, refused, and never shown."""

from __future__ import annotations

import re
from difflib import get_close_matches

from reconciler.spec.values import Path

MASK = "***"

_WORDS = r"(?:password|passwd|pwd|passphrase|pgpassword|sslpassword|secret|token|access_token|api[_-]?key|jwt|service_role_key)"
# The first group of each is what must not be seen. All are bounded: a hostile text must not make the search slow.
_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in {
        "a password in a connection URI": r"\bpostgres(?:ql)?://[^\s/:@]{0,500}:([^\s@]{1,2000}(?:@[^\s@/]{0,500}){0,5})@",
        "a password in a URI": r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@?#]{0,500}:([^\s/@?#]{1,2000})@",
        "a credential in a URI": r"://\S{0,500}?[?&;]" + _WORDS + r"=([^&\s'\"]+)",
        "a JSON Web Token": r"(?<![\w-])(eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)",
        "a Supabase secret key": r"(?<![A-Za-z0-9])(sb_secret_[\w-]{6,}|sbp_\w{16,})",
        "a private key": r"(-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.|\n)*)",
    }.items()
)
_KEYWORD = re.compile(r"(?:^|\s)(?:ssl|pg)?password\s*=\s*(?:'[^']|[^\s'])", re.IGNORECASE)  # of a keyword=value DSN
_NAMES = re.compile(rf"{_WORDS}|key|bearer|service_role", re.IGNORECASE)
_NAME_OF_SECRET = re.compile(rf"(?:proxy-)?authorization|(?:set-)?cookie|.*{_WORDS}.*", re.IGNORECASE)
_ASSIGNED = re.compile(rf"(\b[\w-]*(?:{_WORDS}|authorization|cookie)[\w-]*[\"']?\s*[:=]\s*)(.+)", re.IGNORECASE)

_REFERENCE = re.compile(r"\$\{env:[A-Za-z_][A-Za-z0-9_]*\}")
_REFERENCE_WITH_DEFAULT = re.compile(r"\$\{env:[A-Za-z_][A-Za-z0-9_]*:-([^}]*)\}")
_ONLY_REFERENCE = re.compile(rf"[\s\"']*{_REFERENCE.pattern}[\s\"'}}\],]*(?:#.*)?")

# Sections whose values are shown; a section of an unknown name may be `connections` misspelled.
SHOWN_SECTIONS = frozenset(
    {"version", "variables", "collections", "unique_keys", "bucket_prefixes", "pds_records"}
    | {"processes", "sql_objects", "audits", "guards", "checks"}
)
# Under `connections` every other text may be a secret that was misplaced, and is not shown.
_HARMLESS = frozenset({"files", "directory", "supabase", "atproto", "identifier", "plc", "via", "http", "description"})
_KEYS = (*sorted(_HARMLESS), "postgres", "tables", "headers", "key", "token", "password")


def find(text: str) -> str | None:
    """What kind of credential the text holds, if any; references to the environment are none."""
    if "://" not in text and "eyJ" not in text and "sb" not in text and "-----" not in text:
        return None
    bare = _without_references(text)
    return next((name for name, shape in _SHAPES if shape.search(bare)), None)


def find_in_connection(path: Path, text: str) -> str | None:
    """The same for a value under `connections`, where a key such as `password` tells as well."""
    if found := find(text):
        return found
    bare = _without_references(text).strip()
    if _KEYWORD.search(bare):
        return "a password"
    if "tables" not in path and _NAMES.fullmatch(str(path[-1])) and bare:
        return f"a {path[-1]}"
    return None


def is_name_of_secret(name: str) -> bool:
    """Whether what stands under such a name (of a header, of a payload's member) is most likely a secret."""
    return _NAME_OF_SECRET.fullmatch(name.replace("-", "_")) is not None or _NAME_OF_SECRET.fullmatch(name) is not None


def may_be_shown(path: Path, text: str) -> bool:
    """Whether a value at this place of a spec file can be printed: of connections only what is no secret by its key."""
    if path[0] in SHOWN_SECTIONS:
        return find(text) is None
    if text == "embedded" or not _REFERENCE.sub("", text).strip():
        return True
    harmless = (len(path) == 3 and path[2] in _HARMLESS) or (len(path) == 4 and path[2] == "tables")
    return harmless and find_in_connection(path, text) is None


def key_may_be_shown(path: Path) -> bool:
    """Whether the key a path ends with can be printed: of a connection, only a word of the language or one near it."""
    if len(path) < 3 or path[0] in SHOWN_SECTIONS or path[2] == "tables" or isinstance(path[-1], int):
        return True
    return bool(get_close_matches(str(path[-1]).lower(), _KEYS, 1, 0.75))


def mask(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    if "://" in text or "eyJ" in text or "sb" in text or "-----" in text:
        for _, shape in _SHAPES:
            text = shape.sub(_masked, text)
    return text


def mask_line(line: str) -> str:
    """A line of a file with everything that looks like a credential replaced, judging by key words as well."""
    line = mask(line)
    match = _ASSIGNED.search(line)
    if match is None or _ONLY_REFERENCE.fullmatch(match[2]):
        return line
    return line[: match.start(2)] + MASK


def _masked(match: re.Match[str]) -> str:
    if _REFERENCE.fullmatch(match[1]):
        return match[0]
    start, end = match.start(1) - match.start(), match.end(1) - match.start()
    return match[0][:start] + MASK + match[0][end:]


def _without_references(text: str) -> str:
    """The text as far as it is literal: a reference counts as nothing, one with a default as that default."""
    return _REFERENCE.sub("", _REFERENCE_WITH_DEFAULT.sub(r"\1", text)) if "${" in text else text

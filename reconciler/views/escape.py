"""Text that came out of somebody's data, made harmless for the place it is shown in.

Invariant: no function here lets a character through that the reader cannot see, or take for a common space, or that the place would
interpret.
"""

from __future__ import annotations

import json
import re
import string

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Written out rather than asked of `unicodedata`, whose answers change with the version of Python."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PUNCTUATION = {ord(char): f"&#{ord(char)};" for char in string.punctuation}
_NOT_IN_CODE_SPAN = re.compile(r"[`|\\<>&@]")
_MARKUP = re.compile(r"[`|\\<>&@#~$*\[\]{}^]|(?<![^\W_])_|_(?![^\W_])|://|(?i:www\.)")
_LIST_MARKER = re.compile(r"(?:[-+=]+|\d+[.)])$")


def escape_unseen(char: str) -> str:
    """The visible spelling of one character, as JSON and Python know it."""
    code = ord(char)
    return _SHORT.get(char) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")


def plain(text: str) -> str:
    """One line on which every control character, terminal escape and direction override stands spelled out."""
    return _UNSEEN.sub(lambda match: escape_unseen(match[0]), text)


def escape_all_unseen(document: str) -> str:
    """JSON of the same meaning in which nothing is hidden: its strings know `\\u` escapes too."""
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f"), document)


def plain_lines(text: str) -> str:
    """Several lines, each plain; a tab is one column wide, so that a caret below it stays in its place."""
    return "\n".join(plain(line.replace("\t", " ")) for line in text.split("\n"))


def has_unseen(text: str) -> bool:
    """Whether a character stands in the text that a reader would not see."""
    return _UNSEEN.search(text) is not None


def cut(text: str, width: int) -> str:
    """A plain line of at most `width` characters."""
    line = plain(text[: width + 1])
    return line if len(line) <= width and len(text) <= width else f"{line[: width - 1]}…"


def cut_middle(text: str, width: int) -> str:
    """A plain line of at most `width` characters that keeps both ends, the tail longer: it tells keys apart."""
    line = plain(text)
    if len(line) <= width:
        return line
    head = (width - 1) // 3
    return f"{line[:head]}…{line[len(line) - (width - 1 - head) :]}"


def shorten_keys(keys: list[str], width: int = 44) -> list[str]:
    """Keys for one line: the first cut in its middle, the others without the long beginning all have in common."""
    lines = [plain(key) for key in keys]
    # The keys of a step are sorted: what the first and the last share, all share.
    shared = lines[0][: _shared(lines[0], lines[-1])] if len(lines) > 1 else ""
    shared = shared[: max(shared.rfind(mark) for mark in "/:. ,_-") + 1]
    if len(shared) < 12:
        return [cut_middle(line, width) for line in lines]
    mark, head = shared[-1], shared[:12]
    first = f"{head}…{mark}" if len(shared) > 14 else shared
    tails = [cut_middle(line[len(shared) :], width - 14) for line in lines]
    return [f"{first}{tails[0]}", *(f"…{mark}{tail}" for tail in tails[1:])]


def _shared(one: str, other: str) -> int:
    """How many characters two strings have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def split_values(before: str, after: str, width: int = 60) -> tuple[str, str]:
    """Two long values cut so that the place where they part is seen."""
    if len(before) <= width and len(after) <= width:
        return cut(before, width), cut(after, width)
    start = max(0, _shared(before, after) - width // 3)
    if start < 8:
        return cut(before, width), cut(after, width)
    return f"…{cut(before[start:], width - 1)}", f"…{cut(after[start:], width - 1)}"


def html(text: str) -> str:
    """For raw HTML and Markdown alike: every ASCII punctuation mark as an entity, so that neither finds any syntax."""
    return plain(text).translate(_PUNCTUATION)


def html_code(text: str) -> str:
    """Code where Markdown is not read, such as in a `<summary>`."""
    return f"<code>{html(text)}</code>"


def code(text: str) -> str:
    """Code in Markdown, also within a table: a code span, or entities where a span could be broken out of."""
    line = plain(text)
    if not line.strip() or line != line.strip() or _NOT_IN_CODE_SPAN.search(line):
        return f"<code>{line.translate(_PUNCTUATION)}</code>"
    return f"`{line}`"


def prose(text: str) -> str:
    """A sentence in Markdown: words that would be markup, a mention or a link are shown as code."""
    words = plain(text).split(" ")
    marked = [code(word) if _MARKUP.search(word) else word for word in words]
    if _LIST_MARKER.match(words[0]):
        marked[0] = code(words[0])
    return " ".join(marked)


def mermaid(text: str) -> str:
    """A label between double quotes in a mermaid graph."""
    return "".join(char if char.isalnum() or char in " ._/:," else f"#{ord(char)};" for char in plain(text))


def dot(text: str) -> str:
    """A string between double quotes in a dot graph."""
    return plain(text).replace("\\", "\\\\").replace('"', '\\"')

"""Objects in buckets, reached in one of three ways that keep one promise (`interface.Storage`).

| way | inventory | actions |
|---|---|---|
| `supabase(name, url, key)` | list v2; list v1 where the server has no v2 | the storage API |
| `supabase(name, url, key, session)` | one COPY out of `storage.objects` | the storage API |
| `directory(name, path)` | a walk; each subfolder is a bucket | the file system |

In: the connection's name in the spec (for errors), addresses, keys, an open `Session`. Out: what `interface` says.

`pages.py` and `crawl.py` list by list v2 and v1, `entries.py` reads what they say of an object; `sql.py` asks the database, `walk.py` a
folder; `copytext.py` makes lines of COPY of it. `http.py` asks and is patient; `project.py` and `folder.py` are the storages.

- An inventory is in the order of its names' bytes (as COPY text, in none), streamed, and complete: `totals` exist only after its end. A page
  that is missing, cut, repeated or out of order is a ReconcilerError. So are a missing bucket (the server would answer
  with an empty list), a key that sees only part, and a database that is not the storage's own.
- Only one inventory by SQL at a time: it occupies its session. Where that database is the target's own, `sql.query`
  gives the same as a SELECT to join.
- Every action can be tried again. What passes (429, 5xx, broken connections, cut answers) is tried again here, at most
  `http.CONCURRENCY` requests at a time, as `Retry-After` says, within `Patience`. An answer that was lost is made up
  for by looking at what is there.
- Nothing is overwritten unless asked for. An error never holds a key, a token or an address; a signed URL is a secret.
- `storage3` and httpx are loaded when a Supabase storage is opened, not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.systems.storage.content import transfer
from reconciler.systems.storage.interface import (
    Content,
    Listing,
    Object,
    Outcome,
    Removed,
    Signed,
    Storage,
    Totals,
    Verdict,
)  # fmt: skip
from reconciler.systems.storage.signed import SignedUrl
from reconciler.systems.storage.signed import read as read_signed_url

if TYPE_CHECKING:
    from reconciler.systems.postgres.session import Session
    from reconciler.systems.storage.http import Patience

__all__ = [
    "Content", "Listing", "Object", "Outcome", "Removed", "Signed", "SignedUrl", "Storage", "Totals", "Verdict",
    "directory", "read_signed_url", "supabase", "transfer",
]  # fmt: skip


def supabase(
    name: str, url: str, key: str, session: Session | None = None, patience: Patience | None = None
) -> Storage:
    """The storage of a Supabase project; its key must be the service role's."""
    from reconciler.systems.storage.project import SupabaseStorage

    return SupabaseStorage(name, url, key, session, patience)


def directory(name: str, path: Path) -> Storage:
    """A folder whose subfolders are buckets."""
    from reconciler.systems.storage.folder import DirectoryStorage

    return DirectoryStorage(name, path)

"""Who a handle or DID is, and which PDS holds the repo: handle → DID → document → endpoint, never assumed.

In: a handle, a DID, maybe the PDS the user named and another directory. Out: `Identity`. A PDS that the user named is asked for handles
it serves itself; that it also holds the repo is believed only when the DID's document says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import syntax
from reconciler.systems.pds.xrpc import client as new_client
from reconciler.systems.web import httpx

PLC = "https://plc.directory"
_SECONDS = 10.0


@dataclass(frozen=True)
class Identity:
    """`handle` is the one the document claims, if any; `pds` is the address without a slash at the end."""

    did: str
    handle: str | None
    pds: str


def resolve(identifier: str, *, pds: str | None = None, plc: str | None = None) -> Identity:
    """Where the repo of a handle or DID is."""
    name = identifier.removeprefix("at://").removeprefix("@")
    with new_client(_SECONDS) as client:
        if name.startswith("did:"):
            return _document(client, syntax.did(name), plc or PLC, pds)
        if not syntax.is_handle(name):
            raise ReconcilerError(
                f"{syntax.shown(identifier)} is neither a handle nor a DID",
                todo="write a handle such as alice.example.com, or a DID such as did:plc:…",
            )
        name = name.lower()
        found = _document(client, _did_of(client, name, pds), plc or PLC, pds)
    if found.handle != name:
        raise ReconcilerError(
            f"the handle {name} names {found.did}, which does not name it back",
            why=f"its document claims {found.handle or 'no handle'}",
            todo=f"mend the handle, or write the DID if {found.did} is meant",
        )
    return found


def _did_of(client: httpx.Client, handle: str, pds: str | None) -> str:
    found = _asked(client, handle, pds) if pds else _looked_up(client, handle)
    if found is None or not syntax.is_did(found):
        tried = f"{pds} does not know it" if pds else "neither DNS (_atproto, TXT) nor its web server names a DID"
        raise ReconcilerError(
            f"the handle {handle} cannot be resolved",
            why=tried if found is None else f"what it names is no DID: {syntax.shown(found)}",
            todo="check the spelling, or write the DID instead",
        )
    return found


def _asked(client: httpx.Client, handle: str, pds: str) -> str | None:
    base = pds.rstrip("/")
    response = _get(client, f"{base}/xrpc/com.atproto.identity.resolveHandle?handle={handle}", f"the PDS {base}")
    value = _object(response).get("did") if response.status_code == 200 else None
    return value if isinstance(value, str) else None


def _looked_up(client: httpx.Client, handle: str) -> str | None:
    from atproto_identity.handle.resolver import HandleResolver

    if named := HandleResolver(_SECONDS).resolve_dns(handle):
        return named
    try:
        response = client.get(f"https://{handle}/.well-known/atproto-did", follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    lines = response.text.split() if response.status_code == 200 else []
    return lines[0] if lines and lines[0].startswith("did:") else None


def _document(client: httpx.Client, did: str, plc: str, expected: str | None) -> Identity:
    from atproto_core.did_doc import DidDocument

    url, place = _place(did, plc.rstrip("/"))
    response = _get(client, url, place)
    if response.status_code in (404, 410):
        raise ReconcilerError(
            f"{place} does not know {did}",
            why="it was deactivated" if response.status_code == 410 else None,
            todo="check the DID, or name its directory with plc:",
        )
    try:
        document = DidDocument.from_dict(_object(response))
    except ValueError:
        document = None
    if response.status_code != 200 or document is None or document.id != did:
        said = f"it answered {response.status_code}" if response.status_code != 200 else "it is another's, or none"
        raise ReconcilerError(f"no document of {did} could be read", where=place, why=said, todo="try again later")
    endpoint = document.get_pds_endpoint()
    if endpoint is None:
        raise ReconcilerError(
            f"{did} has no PDS",
            where=place,
            why="its document names no service #atproto_pds",
            todo="the account was deleted or never finished; mend its document first",
        )
    endpoint = endpoint.rstrip("/")
    if expected is not None and _same(expected) != _same(endpoint):
        raise ReconcilerError(
            f"the repo of {did} is not on {expected.rstrip('/')}",
            why=f"its document names {endpoint}",
            todo=f"write {endpoint}, or leave the PDS out: it is found by the handle or DID",
        )
    return Identity(did, document.get_handle(), endpoint)


def _place(did: str, plc: str) -> tuple[str, str]:
    """The address of the document, and what errors call that place."""
    method, _, name = did.removeprefix("did:").partition(":")
    if method == "plc":
        return f"{plc}/{did}", f"the directory {plc}"
    host = unquote(name)
    if method == "web" and ":" not in name and "/" not in host:
        # With a port it can only be this machine, where there are no certificates.
        scheme, bare = "https", host.partition(":")[0]
        if ":" in host:
            scheme = "http" if bare == "localhost" else "none"
        if scheme != "none" and (syntax.is_handle(bare) or bare == "localhost"):
            return f"{scheme}://{host}/.well-known/did.json", f"{host}"
    raise ReconcilerError(
        f"{syntax.shown(did)} cannot be looked up", why="only did:plc and did:web with a plain host are in use"
    )


def _get(client: httpx.Client, url: str, place: str) -> httpx.Response:
    try:
        return client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ReconcilerError(
            f"{place} cannot be reached", why=type(error).__name__, todo="check the address and the network"
        ) from None


def _object(response: httpx.Response) -> dict[str, object]:
    try:
        value = cast(object, response.json())
    except ValueError:
        return {}
    return cast(dict[str, object], value) if isinstance(value, dict) else {}


def _same(url: str) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port

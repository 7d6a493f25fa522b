"""Repos with records in them, for tests."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.systems.pds.session import Login, Session
from reconciler.systems.pds.xrpc import Clock, Wait
from tests.pds.real import Account, Pds

COLLECTION = "org.example.note"
TIDS = "234567abcdefghijklmnopqrstuvwxyz"


class Hurried(Clock):
    """A clock whose sleeps take no time but are remembered."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> float:
        return super().now() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


class Told:
    """Remembers every wait."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []

    def __call__(self, wait: Wait) -> None:
        self.waits.append(wait)


def session(
    pds: Pds, account: Account, *, plc: str | None = None, told: Told | None = None, clock: Clock | None = None
) -> Session:
    return Session(Login(account.did, account.password, plc=plc or pds.plc), waiting=told or Told(), clock=clock)


def key(number: int) -> str:
    """The n-th of the keys a PDS makes itself."""
    text = ""
    for _ in range(12):
        number, digit = divmod(number, 32)
        text = TIDS[digit] + text
    return f"3{text}"


def note(text: str, collection: str = COLLECTION) -> str:
    return f'{{"$type":"{collection}","text":"{text}","number":1,"nothing":null}}'


def fill(
    pds: Pds, account: Account, texts: Mapping[str, str], collection: str = COLLECTION, *, most: int = 200
) -> None:
    """Records as another program writes them: rkey → JSON."""
    entries = list(texts.items())
    for at in range(0, len(entries), most):
        calls = ",".join(
            f'{{"$type":"com.atproto.repo.applyWrites#create","collection":"{collection}","rkey":"{rkey}","value":{text}}}'
            for rkey, text in entries[at : at + most]
        )
        body = f'{{"repo":"{account.did}","validate":false,"writes":[{calls}]}}'
        pds.send("com.atproto.repo.applyWrites", body, account)

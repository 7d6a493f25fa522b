"""Writing records: many a call, one writer a repo, each call bound to the state it was judged on.

In: writes that say what each record was planned on and is to become. Out: what became of each. A record is written only when it was
just seen as planned; the call names the commit at which that was seen (`swapCommit`), so that the server refuses it if anything was
written since. Then the records concerned are read again: as planned, they are tried again; already as they should be, they are left;
anything else is `Drift`, and nothing of that call is kept. Where others write faster than we can look and write, records go one by one,
each bound to what it was itself (`swapRecord`). A call whose answer was lost is never repeated blindly: the commit tells
whether it happened. A call the server refuses for one bad record is narrowed down to that record, and the others go through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.progress import Progress, Silent
from reconciler.systems.pds import batches
from reconciler.systems.pds.batches import Outcome, Result, Room, Validate, Write
from reconciler.systems.pds.inventory import Inventory, head, latest, together
from reconciler.systems.pds.lock import alone
from reconciler.systems.pds.quota import Quota
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.tree import Tree
from reconciler.systems.pds.xrpc import CutError, RefusedError

_METHOD = "com.atproto.repo.applyWrites"
_DRIFTS_NAMED = 20
_FEWEST = 10  # writes a call, however often others get in between
_SINGLY = 50  # records read one by one rather than with the tree of the repo
_WARY = 10  # calls before which we look first, after one came too late
_STARVED = 6  # losses in a row after which records go one by one, until a call gets through again
_LOSSES = 60  # in a row
_CUTS = 6  # in a row


@dataclass
class _Group:
    """Writes that go together if there is room; `sent`: an earlier call with them may have been carried out."""

    writes: list[Write]
    sent: bool = False
    refused: RefusedError | None = None


def check(known: Inventory, writes: Iterable[Write]) -> None:
    """Drift naming every write that is neither to do nor done, before anything is written."""
    drifted = batches.judged([*writes], _Cids(known))[2]
    if drifted:
        raise _drift(drifted, written=0)


def write(
    session: Session,
    writes: Iterable[Write],
    *,
    known: Inventory | None = None,
    validate: Validate = Validate.OFF,
    quota: Quota | None = None,
    progress: Progress | None = None,
) -> Generator[Result]:
    """Carry out the writes in their order; each gives one result, as soon as it is certain.

    `known` with a commit saves reading again while nobody else writes. `quota` counts points where the server does, and several runs
    of one process on one account share it.
    """
    with alone(session.did), (progress or Silent()).task(f"writing to {session.handle or session.did}", None) as task:
        for result in _Writer(session, known, validate, quota or Quota()).run(writes):
            task.advance()
            yield result


class _Cids(dict[tuple[str, str], str | None]):
    """What is known of records at one commit; an inventory knows its whole collection and a tree the whole repo, absences too."""

    def __init__(self, inventory: Inventory | None = None, tree: Tree | None = None) -> None:
        super().__init__()
        self._inventory = inventory
        self._tree = tree

    def __missing__(self, key: tuple[str, str]) -> str | None:
        if self._inventory is not None and self._inventory.collection == key[0]:
            return self._inventory.cids.get(key[1])
        assert self._tree is not None
        return self._tree.cid(*key)

    def unknown(self, key: tuple[str, str]) -> bool:
        whole = self._tree is not None or (self._inventory is not None and self._inventory.collection == key[0])
        return not whole and key not in self


class _Writer:
    def __init__(self, session: Session, known: Inventory | None, validate: Validate, quota: Quota) -> None:
        self._session = session
        self._validate = validate
        self._quota = quota
        self._room = Room()
        self._rest: list[Write] = []
        # Everything in `_cids` is true at `_commit`.
        self._commit = known.commit if known else None
        self._cids = _Cids(known) if known and known.commit else _Cids()
        self._tree = known.tree if known else None  # the last one read; others may have written since
        self._losses = self._cuts = self._rivalry = self._applied = 0

    def run(self, writes: Iterable[Write]) -> Iterator[Result]:
        source, keys = iter(writes), set[tuple[str, str]]()
        groups: deque[_Group] = deque()
        while group := groups.popleft() if groups else self._next(source, keys):
            number = self._room.fit(group.writes, self._points())
            if rest := group.writes[number:]:
                if groups or group.sent or group.refused:
                    groups.appendleft(_Group(rest, group.sent, group.refused))
                else:
                    self._rest = rest + self._rest
                group.writes = group.writes[:number]
            self._read(group)
            to_do, done, drifted = batches.judged(group.writes, self._cids)
            if drifted:
                raise _drift(drifted, self._applied)
            outcome = Outcome.APPLIED if group.sent else Outcome.ALREADY
            self._applied += len(done) if group.sent else 0
            yield from (Result(it, outcome) for it in done)
            if to_do and self._losses >= _STARVED:
                yield from self._one_by_one(_Group(to_do, group.sent, group.refused), groups)
            elif to_do:
                yield from self._send(_Group(to_do, group.sent, group.refused), groups)

    def _next(self, source: Iterator[Write], keys: set[tuple[str, str]]) -> _Group | None:
        """As many as one call could take."""
        taken, self._rest = self._rest, []
        size = sum(it.size for it in taken)
        if len(taken) >= self._room.writes or size > self._room.bytes:
            return _Group(taken)
        for write in source:
            if write.key in keys:
                raise ReconcilerError(f"the record {write.path} is to be written twice", todo="plan again")
            keys.add(write.key)
            taken.append(write)
            size += write.size
            if len(taken) == self._room.writes or size > self._room.bytes:
                break
        return _Group(taken) if taken else None

    def _send(self, group: _Group, groups: deque[_Group]) -> Iterator[Result]:
        """One call, and what its end means: results, or groups to be taken up again."""
        assert self._commit is not None
        points = sum(it.points for it in group.writes)
        self._wait_for(points)
        body = batches.body(self._session.did, group.writes, self._commit, self._validate)
        self._quota.spend(points, self._session.clock.now())
        try:
            answer = self._session.write(_METHOD, body)
        except CutError as cut:
            self._cut(cut)
            group.sent = True
            groups.appendleft(group)
        except RefusedError as refused:
            if refused.name == "InvalidSwap":
                self._lost_race()
                groups.appendleft(group)
            elif refused.status == 413 and len(group.writes) > 1:
                self._room.bytes = min(self._room.bytes, len(body) // 2)
                groups.appendleft(group)
            elif refused.name.startswith(("Account", "Repo")):
                raise ReconcilerError(
                    f"the repo of {self._session.did} takes no writes",
                    why=refused.said(),
                    todo="have the account activated; then run the same again",
                    code=Exit.PARTIAL if self._applied else Exit.ERROR,
                ) from None
            else:
                yield from self._narrow(group, refused, groups)
        else:
            self._heed()
            self._committed(group.writes, answer)
            yield from (Result(it, Outcome.APPLIED) for it in group.writes)

    def _one_by_one(self, group: _Group, groups: deque[_Group]) -> Iterator[Result]:
        """The group without the repo's commit, each write bound to its own record; the next group gets another try together."""
        self._forget()
        for number, write in enumerate(group.writes):
            self._wait_for(write.points)
            self._quota.spend(write.points, self._session.clock.now())
            try:
                self._session.write(*batches.single(self._session.did, write, self._validate))
            except CutError as cut:
                self._cut(cut)
                groups.appendleft(_Group(group.writes[number:], sent=True))
                return
            except RefusedError as refused:
                if refused.name == "InvalidSwap":  # of this very record: reading it tells
                    self._lost_race()
                    groups.appendleft(_Group(group.writes[number:], group.sent))
                    return
                yield Result(write, Outcome.FAILED, self._failure(write, refused))
            else:
                self._heed()
                self._applied += 1
                self._cuts = 0
                yield Result(write, Outcome.APPLIED)
        # The next call may get through, and takes no longer if it is a larger one; nor does the way one by one end so often then.
        self._losses, self._room.writes = _STARVED - 1, min(batches.MAX_WRITES, self._room.writes * 2)

    def _narrow(self, group: _Group, refused: RefusedError, groups: deque[_Group]) -> Iterator[Result]:
        # Where others wrote since, the refusal may be about what they did: then all is read again first.
        stale = self._stale()
        if len(group.writes) > 1:
            bad = batches.suspects(refused, group.writes)
            if not 0 < len(bad) < len(group.writes):
                bad = group.writes[: len(group.writes) // 2]
            chosen = {it.key for it in bad}
            rest = [it for it in group.writes if it.key not in chosen]
            groups.extendleft([_Group(rest, group.sent, refused), _Group(bad, group.sent, refused)])
        elif stale or (refused.status >= 500 and group.refused is None):
            groups.appendleft(_Group(group.writes, group.sent, refused))
        else:
            yield Result(group.writes[0], Outcome.FAILED, self._failure(group.writes[0], refused))

    def _committed(self, writes: list[Write], answer: object) -> None:
        fields = cast(dict[str, object], answer)
        commit, results = fields.get("commit"), fields.get("results")
        cid = cast(dict[str, object], commit).get("cid") if isinstance(commit, dict) else None
        # An older PDS answers with nothing; then the next call reads what is there.
        if isinstance(cid, str):
            self._commit = cid
            self._cids.update((it.key, it.cid) for it in writes)
        else:
            self._forget()
        stored = cast(list[dict[str, object]], results) if isinstance(results, list) else []
        for write, result in zip(writes, stored, strict=False):
            if write.after and result.get("cid", write.cid) != write.cid:
                raise ReconcilerError(
                    f"{self._session.pds} stored the record {write.path} otherwise than it was sent",
                    why=f"its CID is {result.get('cid')}, and the record's is {write.cid}",
                    todo="look at the record there; undo of this plan will report it as changed",
                )
        self._applied += len(writes)
        self._losses = self._cuts = 0
        if (
            self._rivalry
        ):  # somebody writes all the time: a look costs less than a call that comes too late, which costs points
            self._rivalry -= 1
            self._forget()
        self._room.writes = min(batches.MAX_WRITES, self._room.writes * 2)

    def _read(self, group: _Group) -> None:
        """Know every record of the group at `_commit`."""
        unknown = [it.key for it in group.writes if self._commit is None or self._cids.unknown(it.key)]
        if not unknown:
            return
        if (len(unknown) > _SINGLY and self._session.whole) or (self._commit is None and self._tree is not None):
            self._look(unknown)
            return
        if self._commit is None:
            self._cids = _Cids()
            # The commit first: whatever is written while the records are read makes the call fail.
            self._commit = head(self._session)
        found = together(self._session, unknown)
        self._cids.update((key, it.cid if it else None) for key, it in found.items())

    def _look(self, keys: list[tuple[str, str]]) -> None:
        """Read the tree, only what changed of it where one was read before."""
        try:
            tree = latest(self._session, self._tree)
            cids = {key: tree.cid(*key) for key in keys}
        except ReconcilerError:
            if self._tree is None:
                raise
            self._tree = None  # a PDS may know no changes since; then all of it
            return self._look(keys)
        self._tree, self._commit, self._cids = tree, tree.commit, _Cids(tree=tree)
        self._cids.update(cids)
        return None

    def _stale(self) -> bool:
        """Whether anyone, we included, wrote since what we know; then we know nothing."""
        if head(self._session) == self._commit:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        self._commit, self._cids = None, _Cids()

    def _lost_race(self) -> None:
        self._forget()
        self._losses += 1
        self._rivalry = _WARY
        # Once is normal: the others wrote during our last call. Twice: they wrote while we looked, so look and write faster.
        if 1 < self._losses < _STARVED:
            self._room.writes = max(self._room.writes // 2, _FEWEST)
        if self._losses == _LOSSES:
            raise ReconcilerError(
                f"somebody else writes to the repo of {self._session.did} without a pause",
                why=f"{_LOSSES} calls in a row came too late",
                todo="stop the other writer, and run the same again; what is done stays done",
                code=Exit.PARTIAL if self._applied else Exit.ERROR,
            )

    def _cut(self, cut: CutError) -> None:
        self._cuts += 1
        if self._cuts == _CUTS:
            raise ReconcilerError(
                f"the connection to {self._session.pds} is lost",
                where=_METHOD,
                why=f"{_CUTS} calls in a row got no answer: {cut}",
                todo="run the same again: what was written is recognised",
                code=Exit.PARTIAL if self._applied else Exit.ERROR,
            )
        self._session.wait(min(2.0**self._cuts / 4, 10), f"the connection to {self._session.pds} broke")
        self._stale()

    def _points(self) -> int:
        """Points one call may cost now; where nothing is left, those of a full one, which is then waited for."""
        if not self._session.limited:
            return 1 << 62
        return self._quota.left(self._session.clock.now()) or batches.MAX_WRITES * 3

    def _wait_for(self, points: int) -> None:
        while self._session.limited and (seconds := self._quota.wait(points, self._session.clock.now())) > 0:
            self._session.wait(seconds + 1, f"{self._session.pds} takes only so many writes an hour and a day")

    def _heed(self) -> None:
        if self._session.told:
            self._quota.heed(self._session.told, self._session.clock.now())

    def _failure(self, write: Write, refused: RefusedError) -> ReconcilerError:
        return ReconcilerError(
            f"the record {write.path} was refused",
            where=f"{self._session.pds}, {_METHOD}",
            why=refused.said(),
            todo="upload the blob first" if refused.name == "BlobNotFound" else "mend the record in its source",
        )


def _drift(drifted: list[str], written: int) -> Drift:
    more = [f"… and {len(drifted) - _DRIFTS_NAMED} more"] if len(drifted) > _DRIFTS_NAMED else []
    return Drift(
        f"{len(drifted)} record{'s are' if len(drifted) > 1 else ' is'} not what the plan saw",
        details=(*drifted[:_DRIFTS_NAMED], *more),
        why=f"somebody wrote to the repo since; {written} writes of this run are done" if written else None,
    )

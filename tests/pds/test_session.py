"""Finding the PDS and being let in: by handle, DID, app password, proxy; and what goes wrong, in words without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import identity
from reconciler.systems.pds.session import Login, Session
from tests.pds.proxy import Answer, Call, Proxy, directory, passing
from tests.pds.real import Account, Pds


@contextmanager
def behind(pds: Pds, treat: Callable[[Call, Callable[[], Answer]], Answer | None]) -> Generator[tuple[Proxy, str]]:
    """A proxy that the account's document names as its PDS, and the directory with that document."""
    with passing(pds.url, treat) as proxy, passing(pds.plc, directory(proxy.url)) as plc:
        yield proxy, plc.url


def login(pds: Pds, account: Account, **more: str) -> Login:
    return Login(**{"identifier": account.did, "password": account.password, "plc": pds.plc, **more})


def nothing(account: Account) -> bytes:
    return json.dumps({"repo": account.did, "writes": []}).encode()


def write(session: Session, account: Account) -> None:
    session.write("com.atproto.repo.applyWrites", nothing(account))


def test_a_did_is_found_by_its_document(pds: Pds, account: Account) -> None:
    found = identity.resolve(account.did, plc=pds.plc)
    assert found == identity.Identity(account.did, account.handle, pds.url)


def test_a_handle_is_asked_of_the_pds_the_user_names(pds: Pds, account: Account) -> None:
    for name in (account.handle, f"@{account.handle}", account.handle.upper()):
        assert identity.resolve(name, pds=pds.url, plc=pds.plc).did == account.did


def test_the_pds_the_user_names_must_be_the_document_s(pds: Pds, account: Account) -> None:
    with pytest.raises(ReconcilerError, match=r"is not on https://bsky\.social") as wrong:
        identity.resolve(account.did, pds="https://bsky.social", plc=pds.plc)
    assert pds.url in wrong.value.render()


def test_a_handle_that_is_not_named_back_is_refused(pds: Pds, account: Account) -> None:
    other = pds.account()
    answer = Answer(200, json.dumps({"did": other.did}).encode())
    with behind(pds, lambda call, on: answer) as (liar, plc), pytest.raises(ReconcilerError, match="not name it back"):
        identity.resolve(account.handle, pds=liar.url, plc=plc)


@pytest.mark.parametrize("name", ["nobody.invalid", "nobody.test"])
def test_an_unknown_handle(pds: Pds, name: str) -> None:
    with pytest.raises(ReconcilerError, match=f"the handle {name} cannot be resolved"):
        identity.resolve(name, pds=pds.url if name.endswith("test") else None, plc=pds.plc)


@pytest.mark.parametrize(
    "name", ["alice", "alice@example.com", "did:plc:", "did:key:zQ3sh", "did:web:a:b", "did:web:a.com%2Fb", ""]
)
def test_what_is_no_name(pds: Pds, name: str) -> None:
    with pytest.raises(ReconcilerError):
        identity.resolve(name, plc=pds.plc)


def test_an_unknown_did_and_an_unreachable_directory(pds: Pds) -> None:
    with pytest.raises(ReconcilerError, match="does not know did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"):
        identity.resolve("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", plc=pds.plc)
    with pytest.raises(ReconcilerError, match=r"the directory http://127\.0\.0\.1:9 cannot be reached"):
        identity.resolve("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", plc="http://127.0.0.1:9")


def test_a_did_of_the_web_on_this_machine(pds: Pds) -> None:
    with passing(pds.url, lambda call, on: Answer(200, document)) as web:
        did = f"did:web:localhost%3A{web.url.rpartition(':')[2]}"
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds.url}
        document = json.dumps({"id": did, "alsoKnownAs": ["at://alice.test"], "service": [service]}).encode()
        assert identity.resolve(did) == identity.Identity(did, "alice.test", pds.url)
        document = json.dumps({"id": did}).encode()
        with pytest.raises(ReconcilerError, match="has no PDS"):
            identity.resolve(did)
        document = json.dumps({"id": "did:web:other.com"}).encode()
        with pytest.raises(ReconcilerError, match="no document of"):
            identity.resolve(did)


def test_reading_needs_no_password_and_a_run_logs_in_once(pds: Pds, account: Account) -> None:
    with behind(pds, lambda call, on: on()) as (proxy, plc), Session(login(pds, account, plc=plc)) as session:
        session.read("com.atproto.repo.describeRepo", repo=account.did)
        assert proxy.count("createSession") == 0
        for _ in range(3):
            write(session, account)
        assert (proxy.count("createSession"), proxy.count("applyWrites")) == (1, 3)


def test_a_token_that_ran_out_is_renewed_and_not_asked_for_again(pds: Pds, account: Account) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        answer = on()
        if call.method.endswith("createSession"):
            given = json.loads(answer.body)
            given["accessJwt"] = pds.expired_token(account)
            return Answer(200, json.dumps(given).encode())
        return answer

    with behind(pds, treat) as (proxy, plc), Session(login(pds, account, plc=plc)) as session:
        write(session, account)
        write(session, account)
        assert [it.method.rpartition(".")[2] for it in proxy.calls] == [
            "createSession", "applyWrites", "refreshSession", "applyWrites", "applyWrites",
        ]  # fmt: skip


def test_a_session_that_cannot_be_renewed(pds: Pds, account: Account) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if call.method.endswith("refreshSession"):
            return Answer(400, b'{"error":"ExpiredToken","message":"Token has been revoked"}')
        answer = on()
        if call.method.endswith("createSession"):
            given = {**json.loads(answer.body), "accessJwt": pds.expired_token(account)}
            return Answer(200, json.dumps(given).encode())
        return answer

    with behind(pds, treat) as (proxy, plc), Session(login(pds, account, plc=plc)) as session:
        with pytest.raises(ReconcilerError, match="could not be renewed"):
            write(session, account)
        assert proxy.count("createSession") == 1


def test_a_wrong_password_in_words_without_it(pds: Pds, account: Account) -> None:
    with Session(login(pds, account, password="canary-canary-canary")) as session:
        with pytest.raises(ReconcilerError, match="does not let") as refused:
            write(session, account)
        said = refused.value.render() + repr(session) + repr(refused.value) + repr(login(pds, account))
        assert "canary" not in said and account.password not in said
        assert "AuthenticationRequired" in said and "app password" in said


def test_a_server_that_repeats_secrets_is_not_repeated(pds: Pds, account: Account) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if call.method.endswith("applyWrites"):
            return Answer(401, json.dumps({"error": "AuthenticationRequired", "message": f"bad {call.token}"}).encode())
        if call.method.endswith("createSession"):
            assert account.password.encode() in call.body
        return on()

    with behind(pds, treat) as (_, plc), Session(login(pds, account, plc=plc)) as session:
        with pytest.raises(ReconcilerError, match="refuses the owner's call") as refused:
            write(session, account)
        assert "***" in refused.value.render() and "eyJ" not in refused.value.render()


def test_writing_without_a_password(pds: Pds, account: Account) -> None:
    with (
        Session(Login(account.did, plc=pds.plc)) as session,
        pytest.raises(ReconcilerError, match="needs an app password"),
    ):
        write(session, account)


def test_nothing_secret_goes_to_another_machine_in_the_clear(pds: Pds, account: Account) -> None:
    given = login(pds, account, via="http://203.0.113.1", token="canary")
    with Session(given) as session, pytest.raises(ReconcilerError, match="no password or token is sent"):
        write(session, account)


@pytest.mark.parametrize(
    "via", ["proxy.example.com", "ftp://x", "https://", "https://user:canary@host", "https://x/?token=canary"]
)
def test_an_address_that_is_none_is_not_shown(pds: Pds, account: Account, via: str) -> None:
    with pytest.raises(ReconcilerError, match="is not one") as wrong:
        Session(login(pds, account, via=via, token="t"))
    assert "canary" not in wrong.value.render()


def test_by_way_of_an_app_s_proxy(pds: Pds, account: Account) -> None:
    """The app holds the account's session; we hold a token of the app's."""

    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if call.token != "Bearer app-token":
            return Answer(401, b'{"error":"Unauthorized","message":"who are you?"}')
        return on()

    with passing(pds.url, treat, token=account.access) as proxy:
        for via in (proxy.url, f"{proxy.url}/xrpc"):
            with Session(login(pds, account, via=via, token="app-token")) as session:
                write(session, account)
                session.read("com.atproto.repo.describeRepo", repo=account.did)
        assert [it.method for it in proxy.calls] == ["com.atproto.repo.applyWrites"] * 2
        with Session(login(pds, account, via=proxy.url, token="wrong-token")) as session:
            with pytest.raises(ReconcilerError, match=r"the proxy .* refuses") as refused:
                write(session, account)
            assert "wrong-token" not in refused.value.render()
        with (
            Session(Login(account.did, plc=pds.plc, via=proxy.url)) as session,
            pytest.raises(ReconcilerError, match="needs a token"),
        ):
            write(session, account)

"""A credential in a spec is an error, and no error ever shows it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from tests.spec.conftest import Loader
from tests.spec.loading import load_whatever

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.canary"
HEAD = "version: 1\n"

HELD: list[tuple[str, str]] = [
    ('connections: { a: { postgres: "postgresql://u:canary@h/d" } }', "a password in a connection URI"),
    ('connections: { a: { postgres: "postgres://u:can@ary@h/d" } }', "a password in a connection URI"),
    ('connections: { a: { postgres: "postgresql://u:can/canary@h/d" } }', "a password in a connection URI"),
    ('connections: { a: { postgres: "postgresql://h/d?user=u&password=canary" } }', "a credential in a URI"),
    ('connections: { a: { postgres: "host=h password=canary" } }', "a password"),
    ("connections: { a: { postgres: \"host=h password = 'can canary'\" } }", "a password"),
    ('connections: { a: { postgres: "${env:URL:-postgresql://u:canary@h/d}" } }', "a password in a connection URI"),
    ('connections: { a: { postgres: "postgresql://u:${env:PW}canary@h/d" } }', "a password in a connection URI"),
    ('connections: { a: { postgres: "postgresql://u:${pw}@h/d" } }', "a password in a connection URI"),
    ('connections: { a: { supabase: "https://x.supabase.co", key: canary } }', "a key"),
    (f'connections: {{ a: {{ supabase: "https://x.supabase.co", key: "{JWT}" }} }}', "a JSON Web Token"),
    ("connections: { a: { supabase: https://x, key: sb_secret_canary123 } }", "a Supabase secret key"),
    ("connections: { a: { atproto: x.example, password: canary } }", "a password"),
    ("connections: { a: { atproto: x.example, token: 'canary' } }", "a token"),
    ("connections:\n  a:\n    postgres: >\n      postgresql://u:canary@h/d", "a password in a connection URI"),
    ("connections:\n  a:\n    password: >\n      canary\n      canary", "a password"),
    (f"variables: {{ a: {{ default: {JWT} }} }}", "a JSON Web Token"),
    ("variables: { a: { default: postgresql://u:canary@h/d } }", "a password in a connection URI"),
    ("variables: { a: { description: 'https://u:canary@h' } }", "a password in a URI"),
    ("collections: { a: { source: { rows: [{ a: sb_secret_canary123 }] } } }", "a Supabase secret key"),
    ("collections: { a: { where: \"x = 'postgresql://u:canary@h'\" } }", "a password in a connection URI"),
]


@pytest.mark.parametrize(("text", "held"), HELD, ids=[str(number) for number in range(len(HELD))])
def test_a_credential_is_an_error(load_text: Loader, text: str, held: str) -> None:
    with pytest.raises(ReconcilerError) as raised:
        load_text(HEAD + text + "\n")
    assert f"holds {held}" in raised.value.render()
    assert "canary" not in raised.value.render()


ALLOWED = [
    'connections: { a: { postgres: "postgresql://u:${env:PW}@h/d" } }',
    'connections: { a: { postgres: "postgresql://u@h/d" } }',
    'connections: { a: { postgres: "host=h user=u password=${env:PW}" } }',
    'connections: { a: { postgres: "service=production" } }',
    'connections: { a: { postgres: "${env:URL:-postgresql://localhost/d}" } }',
    "connections: { a: { files: data, tables: { token: tokens, key: keys, password: passwords } } }",
    'variables: { a: { default: "at://did:plc:abc/app.bsky.feed.post/1@x" } }',
    'variables: { a: { default: "mail a@b.example, see https://x.example:8080/y?token" } }',
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_only_looks_like_one_is_allowed(load_text: Loader, text: str) -> None:
    load_text(HEAD + text + "\n")


BROKEN = [
    'connections: { a: { postgres: "postgresql://u:canary@h/d }',
    "connections: { a: { postgres: postgresql://u:canary@h/d, x: {1: 2}, x: 3 } }",
    "connections: { a: { password: canary, password: canary } }",
    "connections: { a: canary }",
    "connections: [canary]",
    "connections: canary",
    "connections: { a: { postgress: canary, files: [canary] } }",
    "connections: { a: { postgres: canary } }",
    "connections: { a: { files: data, canary: canary } }".replace("canary: ", "pasword: "),
    "conections: { a: { key: canary } }",
    "connections:\n  a:\n    key: canary\n   b: canary",
    "connections:\n  a:\n\tkey: canary",
    "connections:\n  a: { key: 'canary\n",
    "connections:\n  a: !x canary\n",
    "{ version: 1, connections: { a: { key: canary",
    "? connections\n: { a: { key: canary, key: canary ] }",
    "connections: { a: { 1: 2, key: canary } }",
    "connections: { a: { 1: 2, key: canary ] }",
    "connections: { a: [*nope, canary] }",
    "connections: { a: !x { key: canary } }",
    "connections: { a: {} } # canary",
    "connections: { a: { key: ,canary } }",
    "connections: { a: { canary: 1, canary: 2 } }",
    "connections: { a: { key: *canary } }",
    "connections: { a: { key: &canary } }",
    "connections: { a: { key: !canary } }",
    "connections: { a: { key: &x !canary y } }",
    "connections: { a: { key: %canary } }",
    "connections: { a: { key: @canary } }",
    "connections: { a: { key: {canary} } }",
    "connections: { a: { key: [canary] } }",
    "connections: { a: { files: { canary: 1 } } }",
    "connections:\n  a: {} # canary",
    "connections: { a: { postgres: '${env:X:canary}' } }",
    "connections: { a: { postgres: &x canary }, b: { key: *x } }",
    "version: postgresql://u:canary@h/d",
    "postgresql://u:canary@h/d: 1",
    "collections: { a: { on_extra: 'postgresql://u:canary@h/d' } }",
    "collections: { a: { password: 'canary' } }",
    f"collections: {{ a: {{ key: {JWT} }} }}",
]


@pytest.mark.parametrize("text", BROKEN)
def test_other_errors_do_not_show_it_either(load_text: Loader, text: str) -> None:
    for head in (HEAD, ""):
        with pytest.raises(ReconcilerError) as raised:
            load_text(head + text + "\n")
        assert "canary" not in raised.value.render()


@given(st.sampled_from([text for text, _ in HELD] + BROKEN), st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_mutilated_specs_do_not_show_it(text: str, seed: int) -> None:
    """Whatever is done to the text around a secret of the connections, no error shows it."""
    chance = random.Random(seed)
    if not ("connections: { a: { " in text or "connections:\n  a:\n" in text):  # elsewhere it could become a name
        return
    head, name, tail = (HEAD + text).rpartition("canary")
    before, _, after = head.rpartition(": ")
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(after) + 1)
        after = (
            after[:place] + chance.choice(["", "x", "'", '"', ":", " ", "}", "]", "#x ", "\n  "]) + after[place + 1 :]
        )
    shown = load_whatever(before + ": " + after + name + tail)
    assert "canary" not in shown

"""Names: as the reference implementation judges them, which is asked itself."""

from __future__ import annotations

import json
import subprocess

import pytest

from reconciler.embedded.pds import Installation
from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import syntax

_ASK = """
const path = require('node:path'), { createRequire } = require('node:module')
const asked = createRequire(path.join(process.argv[1], 'package.json'))
const load = createRequire(asked.resolve('@atproto/pds'))
import(load.resolve('@atproto/syntax')).then((s) => {
  const holds = (check, text) => { try { check(text); return true } catch { return false } }
  const given = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))
  const one = (text) => [holds(s.ensureValidDid, text), holds(s.ensureValidHandle, text), holds(s.ensureValidNsid, text), s.isValidRecordKey(text)]
  process.stdout.write(JSON.stringify(given.map(one)))
})
"""
_TEXTS = [
    "", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c\n", "A.B.C", "a.b.3", "3.b.c", "a.3.c", "a.b-.c", "a.-b.c",
    "a-.b.c", "a.b.c-d", "a.b.c_d", "a..b.c", ".a.b.c", "a.b.c.", "com.example.fooBar3", "com.example.f-b",
    "com.exa🤯ple.thing", "com.example.*", "a" * 63 + ".b.c", "a" * 64 + ".b.c", "a.b." + "c" * 63, "a.b." + "c" * 64,
    "a.1.c", "a-0.b-1.c", "com." + "middle." * 40 + "foo", "com." + "middle." * 50 + "foo", "x" * 512, "x" * 513,
    "a/b", "a b", "a\n", "self", "example.com", "~1.2-3_", "dHJ1ZQ", "pre:fix", "_", "alpha/beta", "#extra",
    "@handle", "any+space", "(1)", "number[3]", "%30", "did:plc:abc", "did:web:example.com",
    "did:web:localhost%3A8080", "did:method:val:", "did:method:val%", "did:method::::val", "did:METHOD:val",
    "did:m123:val", "did:method:", "did:method:val/two", "did:method:val?two", "did:method:val#two", "did:plc:abc\n",
    "did:method:val_1", "did:method:-", "did:method:.", "DID:method:val", "did:method:v" * 200, "did:a:" + "x" * 2042,
    "did:a:" + "x" * 2043, "alice.test", "alice.TEST", "alice", "-a.test", "a-.test", "a.1", "a.b1", "xn--ls8h.test",
    "a.test.", "a_b.test", "a" * 63 + ".test", "a" * 64 + ".test", "1.test", "a.t", "a" + ".b" * 126,
    "a" + ".b" * 127, "did:plc", "é.test",
]  # fmt: skip


def test_names_are_judged_as_the_reference_judges_them(pds_installation: Installation) -> None:
    asked = subprocess.run(
        [pds_installation.node, "-e", _ASK, pds_installation.packages],
        input=json.dumps(_TEXTS), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    ours = [
        [check(text) for check in (syntax.is_did, syntax.is_handle, syntax.is_nsid, syntax.is_rkey)] for text in _TEXTS
    ]
    theirs: list[list[bool]] = json.loads(asked.stdout)
    assert dict(zip(_TEXTS, ours, strict=True)) == dict(zip(_TEXTS, theirs, strict=True))


def test_the_parts_of_a_record_s_uri() -> None:
    text = "at://did:plc:abc/site.standard.document/3kabc"
    assert syntax.record_uri(text) == syntax.RecordUri("did:plc:abc", "site.standard.document", "3kabc")
    assert str(syntax.record_uri(text)) == text
    assert syntax.record_uri("at://alice.test/a.b.c/self").authority == "alice.test"


@pytest.mark.parametrize(
    ("text", "offender"),
    [
        ("https://x/a.b.c/r", "https://x"),
        ("at://did:plc:abc/a.b.c", "at://did"),
        ("at://did:plc:abc/a.b.c/r/x", "r/x"),
        ("at://alice/a.b.c/r", "'alice'"),
        ("at://did:plc:abc/a.b/r", "'a.b'"),
        ("at://did:plc:abc/a.b.c/..", "'..'"),
        ("at://did:plc:abc/a.b.c/r\n", r"'r\n'"),
        ("at://did:plc:abc/a.b.c/" + "r" * 9000, "9023 characters"),
    ],
)
def test_what_is_wrong_with_a_uri_is_shown(text: str, offender: str) -> None:
    with pytest.raises(ReconcilerError) as wrong:
        syntax.record_uri(text)
    assert offender in wrong.value.render()
    assert len(wrong.value.render()) < 400 and "\n" not in wrong.value.what

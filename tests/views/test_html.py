"""The page of a plan, by its text: it loads nothing, runs nothing but its own script, and holds every change."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.plan.file import Header, Plan
from reconciler.plan.step import Deferred, Hazard, Step, Verb
from reconciler.views import html, svg
from tests.views.plans import NASTY, PRODUCTION, Row, inserts, make, step

VOID = {"meta", "input", "br"}
SCRIPT = Path(html.__file__).parent / "page/page.js"


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "style"):
            self.raw.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.raw[-1] = (self.raw[-1][0], self.raw[-1][1] + data)
        else:
            self.text += data


def page(plan: Plan) -> Page:
    return Page("".join(html.render(plan)))


def hostile(folder: Path, nasty: str) -> Plan:
    name = nasty[:20].replace(chr(34), "")
    it = step(
        Verb.UPDATE, f'public."t{name}"', columns={"uri": "text", nasty: "text"}, notes=(f"columns: {nasty}", nasty)
    )
    header = Header(
        connections=PRODUCTION, hazards=(Hazard("x", nasty, nasty, 3, it.id),), deferred=(Deferred(nasty, nasty),)
    )
    rows: list[Row] = [((nasty,), {nasty: nasty}, {nasty: f"{nasty}2"})]
    return make(folder, [(it, rows)], header)


def changes(it: Page) -> list[dict[str, object]]:
    blocks = [text for attributes, text in it.raw if attributes.get("class") == "changes"]
    return [json.loads(line) for text in blocks for line in text.strip().split("\n")]


def check(it: Page) -> None:
    """What must hold of every page."""
    assert it.open == []
    ids = [attributes["id"] for _, attributes in it.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in it.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "a"), tag
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "href", "srcset", "action")
        ]
    run = [(attributes, text) for attributes, text in it.raw if attributes.get("type") != "application/json"]
    policy = next(str(them["content"]) for _, them in it.tags if them.get("http-equiv") == "Content-Security-Policy")
    assert "unsafe" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in run} <= allowed
    assert len(allowed) == 2
    assert "default-src 'none'" in policy


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nasty=st.one_of(st.just(NASTY), st.text("<>&\"'/\\-!\n\x1b\u2028\u202eab{}]", min_size=1, max_size=30)))
def test_data_stays_data(tmp_path: Path, nasty: str) -> None:
    it = page(hostile(tmp_path, nasty))
    check(it)
    (change,) = changes(it)
    assert (change["key"], change["after"]) == ([nasty], {nasty: f"{nasty}2"})
    assert len([1 for tag, _ in it.tags if tag == "script"]) == 3


def test_every_change_is_there_in_the_plans_order(tmp_path: Path) -> None:
    steps = [
        (step(Verb.INSERT), inserts(f"k{n:05}" for n in range(2500))),
        (step(Verb.DELETE), [(("k",), {"uri": "k"}, None)]),
    ]
    plan = make(tmp_path, steps)
    it = page(plan)
    check(it)
    found = changes(it)
    assert [change["key"] for change in found] == [[f"k{n:05}"] for n in range(2500)] + [["k"]]
    assert found[0] == {
        "key": ["k00000"],
        "before": None,
        "after": {"data": '{"a": 1}', "n": None, "uri": "k00000"},
        "reason": "missing",
    }
    blocks = [attributes for attributes, _ in it.raw if attributes.get("class") == "changes"]
    assert len(blocks) == 4  # 1000, 1000, 500, 1: as the script counts


def test_sensitive_values_are_not_in_the_file(tmp_path: Path) -> None:
    hidden = step(Verb.UPDATE, columns={"uri": "text", "n": "text sensitive"})
    text = "".join(html.render(make(tmp_path, [(hidden, [(("u",), {"n": "canary1"}, {"n": "canary2"})])])))
    assert "canary" not in text
    assert "(sensitive)" in text


def test_risks_stand_first_and_lead_to_their_step(tmp_path: Path) -> None:
    first, second = step(Verb.INSERT), step(Verb.DELETE)
    header = Header(
        connections=PRODUCTION, hazards=(Hazard("whole-table", "collections.documents", "all go", 1, second.id),)
    )
    plan = make(tmp_path, [(first, inserts("a")), (second, [(("k",), {"uri": "k"}, None)])], header)
    it = page(plan)
    check(it)
    assert it.text.index("NOT ALLOWED YET") < it.text.index("Order of the steps") < it.text.index("every resource")
    risk = next(n for n, (_, attributes) in enumerate(it.tags) if attributes.get("class") == "stop")
    assert it.tags[risk + 1][1]["data-step"] == "1"


def test_a_plan_without_steps(tmp_path: Path) -> None:
    it = page(make(tmp_path, [], Header(spec={"collections": {"a": {}}})))
    check(it)
    assert "No changes. 1 resource is in sync." in it.text


def test_little_memory_however_many_changes(tmp_path: Path) -> None:
    plan = make(tmp_path, [(step(Verb.INSERT), inserts(f"k{n:05}" for n in range(15_000)))])
    tracemalloc.start()
    size = sum(len(piece) for piece in html.render(plan))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 1_000_000
    assert most < 1_500_000


@settings(deadline=None)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60).map(lambda e: (n, e))
    )
)
def test_the_graph_is_laid_out_from_above(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = drawn
    names = [f"collections.a[t{n}]/insert" for n in range(count)]
    before = {n: tuple(names[a] for a, b in edges if b == n and a < b) for n in range(count)}
    steps = [Step(name, "p", f"t{n}", Verb.INSERT, count=1, needs=before[n]) for n, name in enumerate(names)]
    picture = svg.render(steps, ["+"] * count, [()] * count)
    found = re.findall(r'data-step="(\d+)".*?<rect x="(-?\d+)" y="(-?\d+)"', picture)
    places = {names[int(n)]: (int(x), int(y)) for n, x, y in found}
    assert len(set(places.values())) == len(places) == count
    assert all(places[it][1] < places[step.id][1] for step in steps for it in step.needs)
    assert picture == svg.render(steps, ["+"] * count, [()] * count)


def test_the_picture_is_bounded(tmp_path: Path) -> None:
    steps = [step(Verb.INSERT, f"public.t{n}") for n in range(svg.MOST + 5)]
    text = "".join(html.render(make(tmp_path, [(it, inserts("a")) for it in steps])))
    assert f"The first {svg.MOST} of {svg.MOST + 5} steps." in text
    assert text.count('class="node') == svg.MOST


LOGIC = r"""
const page = require(process.argv[1]), assert = require("node:assert");
assert.deepEqual(page.parts("abcXdef", "abcYYdef"), ["abc", "X", "YY", "def"]);
assert.deepEqual(page.parts("aa", "aaa"), ["aa", "", "a", ""]);
assert.deepEqual(page.parts("", "x"), ["", "", "x", ""]);
assert.equal(page.shown(null), null);
assert.equal(page.shown("null"), '"null"');
assert.equal(page.shown({ b: 1, a: [2] }), '{"a":[2],"b":1}');
assert.equal(page.plain("a\u202e\n\u001b"), "a\\u202e\\n\\u001b");
const row = { sensitive: ["s"], whole: false }, record = { sensitive: [], whole: true };
const names = (change, step) => page.cells(change, step).map((cell) => cell.name);
assert.deepEqual(names({ before: { a: "1", guard: "2" }, after: { a: "3" } }, row), ["a"]);
assert.deepEqual(names({ before: { a: 1, b: { x: 1, y: 2 } }, after: { a: 2, b: { y: 2, x: 1 }, c: null } }, record), ["a", "c"]);
assert.deepEqual(names({ before: null, after: { b: "1", a: null } }, row), ["a", "b"]);
assert.equal(page.cells({ before: { s: "h1" }, after: { s: "h2" } }, row)[0].after, "(sensitive)");
const change = { key: ["k<1>"], before: { a: "Straße" }, after: { a: null }, reason: "differs" };
for (const word of ["k<", "stra", "differs", "a"]) assert.ok(page.holds(change, row, word), word);
for (const word of ["key", "before", "zzz"]) assert.ok(!page.holds(change, row, word), word);
const block = (text) => JSON.stringify(text).replace(/[<>&]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")).toLowerCase();
for (const word of ["a<b>&", 'q"uote', "back\\slash", "tab\t", "ünï"]) assert.ok(block("x" + word + "y").includes(page.needle(word)), word);
assert.deepEqual(page.lines("a\nb", "a\nc"), [[" ", "a"], ["-", "b"], ["+", "c"]]);
assert.deepEqual(page.lines(null, "a"), [["+", "a"]]);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_what_the_script_reckons() -> None:
    done = subprocess.run(["node", "-e", LOGIC, str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_script_writes_no_markup() -> None:
    text = SCRIPT.read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
    ):
        assert word not in text
    assert "</script" not in text

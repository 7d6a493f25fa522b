"""The page of a plan in a real browser, from a file: searched, filtered, walked through by keys, without freezing or asking for anything."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from reconciler.plan.file import Header, Plan, planned, write
from reconciler.plan.step import Change, Hazard, Verb
from reconciler.views import html
from tests.views.chromium import Chromium, program
from tests.views.plans import NASTY, PRODUCTION, step

pytestmark = pytest.mark.skipif(
    program() is None, reason="no Chromium is installed, and RECONCILER_CHROMIUM names none"
)

NEW = step(Verb.INSERT, columns={"uri": "text", "title": "text", "n": "integer"})
CHANGED = step(Verb.UPDATE, "public.others", columns={"uri": "text", "title": "text", "n": "integer"}, needs=(NEW.id,))
GONE = step(Verb.DELETE, "public.old", address="collections.old", columns={"uri": "text"}, needs=(CHANGED.id,))
OBJECT = step(Verb.ALTER, "function f()", address="sql_objects.f", key=("kind", "name"), columns={})
MANY = 100_000
LONGEST = """(() => {
  window.longest = 0;
  let last = performance.now();
  (function tick() {
    const now = performance.now();
    window.longest = Math.max(window.longest, now - last);
    last = now;
    setTimeout(tick);
  })();
})()"""
"""Measures how long the page at most does not answer."""
SHOTS = os.environ.get("RECONCILER_SCREENSHOTS")
"""A folder for pictures to look at."""


def make(path: Path, many: int) -> Plan:
    sql = [{"sql": f"CREATE FUNCTION f()\nAS $$ {n} $$"} for n in (1, 2)]
    keys = [f"k{n:06}" for n in range(many)]
    new = (
        Change(NEW.id, (k,), None, {"uri": k, "title": f"Title {n}", "n": None}, "missing") for n, k in enumerate(keys)
    )
    before, after = (
        [{"title": f"{word} {n} end", "n": m} for n in range(40)] for word, m in (("Old", None), ("New", "5"))
    )
    changed = [Change(CHANGED.id, (f"c{n}",), before[n], after[n], "differs") for n in range(40)]
    gone = [Change(GONE.id, (f"g{n}",), {"uri": f"g{n}{NASTY}"}, None, "extra") for n in range(3)]
    altered = Change(OBJECT.id, ("function", "f()"), sql[0], sql[1], "definition differs")
    hazards = (Hazard("whole-table", "collections.old", "all go", 3, GONE.id),)
    steps = [planned(NEW, new), planned(CHANGED, changed), planned(GONE, gone), planned(OBJECT, [altered])]
    return write(path / "x.plan.jsonl", Header(connections=PRODUCTION, hazards=hazards), steps)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small page and a large one."""
    made: dict[str, Path] = {}
    for name, many in (("small", 60), ("large", MANY)):
        folder = tmp_path_factory.mktemp(name)
        made[name] = folder / "plan.html"
        with made[name].open("w", encoding="utf-8") as out:
            out.writelines(html.render(make(folder, many)))
    return made


@pytest.fixture
def page(browser: Chromium, files: dict[str, Path]) -> Chromium:
    browser.events.clear()
    browser.open(files["small"])
    return browser


def status(page: Chromium) -> str:
    page.until("document.getElementById('status').dataset.done === 'true'")
    return page.js("document.getElementById('status').textContent")


def rows(page: Chromium) -> list[str]:
    return page.js("[...document.querySelectorAll('.row')].map((it) => it.textContent)")


def detail(page: Chromium) -> str:
    return page.js("document.getElementById('detail').hidden ? '' : document.getElementById('detail').innerText")


def search(page: Chromium, words: str) -> str:
    page.js("document.getElementById('search').focus(); document.getElementById('search').select()")
    page.type(words)
    page.until(f"document.getElementById('search').value === {words!r}")
    page.js("new Promise((done) => setTimeout(done, 200))")
    return status(page)


def shot(page: Chromium, name: str) -> None:
    if SHOTS:
        page.screenshot(Path(SHOTS) / f"{name}.png")


def test_nothing_is_loaded_and_nothing_refused(page: Chromium, files: dict[str, Path]) -> None:
    assert status(page) == "104 of 104 changes"
    assert page.errors() == []
    assert page.loaded() == [files["small"].as_uri()]
    page.js(
        "(() => { const it = document.createElement('script'); it.textContent = 'window.hit = 1'; document.body.append(it); })()"
    )
    assert page.js("window.hit") is None  # the policy holds
    shot(page, "small")


def test_search_finds_keys_values_and_reasons(page: Chromium) -> None:
    assert search(page, "new 39") == "1 of 104 changes"
    assert "New" in rows(page)[0]
    assert search(page, "k000012") == "1 of 104 changes"
    assert search(page, "definition") == "1 of 104 changes"
    assert search(page, "<script>alert") == "3 of 104 changes"
    assert search(page, "before") == "0 of 104 changes"
    assert page.js("document.querySelectorAll('#grid script').length") == 0
    page.click("#clear")
    assert status(page) == "104 of 104 changes"
    assert page.errors() == []


def test_a_click_on_the_graph_filters(page: Chromium) -> None:
    page.click('.node[data-step="1"]')
    assert status(page) == "40 of 104 changes"
    assert page.js("[...document.querySelectorAll('#head .cell')].map((it) => it.textContent)") == [
        "verb",
        "key",
        "why",
        "n",
        "title",
    ]
    assert page.js("document.querySelector('.row .cell:last-child').innerHTML") == (
        "<del>Old</del><ins>New</ins><span> 0 end</span>"
    )
    assert page.js("document.querySelectorAll('.chosen').length") == 3  # the node, the line of the step, its button
    shot(page, "step")
    page.click('.node[data-step="1"]')
    assert status(page) == "104 of 104 changes"
    page.click(".risks button")
    assert status(page) == "3 of 104 changes"
    page.click("#verbs input[value=delete]")
    assert status(page) == "0 of 104 changes"


def test_all_by_keyboard(page: Chromium) -> None:
    page.js("document.activeElement.blur()")
    page.key("/")
    assert page.js("document.activeElement.id") == "search"
    page.js("document.querySelector('.node[data-step=\"1\"]').focus()")
    page.key("Enter")
    assert status(page) == "40 of 104 changes"
    page.js("document.getElementById('grid').focus()")
    page.key("ArrowDown")
    page.key("Enter")
    assert "c1" in detail(page)
    page.key("End")
    assert "c9" in detail(page)  # the last by the order of its key
    assert (
        page.js(
            "document.getElementById(document.getElementById('grid').getAttribute('aria-activedescendant')).ariaRowIndex"
        )
        == "41"
    )
    page.key("Escape")
    assert detail(page) == ""
    missing = page.js("[...document.querySelectorAll('button, input, select, [role=button], [role=grid]')].filter((it) => "
                      "!(it.ariaLabel || it.getAttribute('aria-label') || it.textContent.trim() || it.closest('label'))).length")  # fmt: skip
    assert missing == 0


def test_one_change_is_shown_whole(page: Chromium) -> None:
    search(page, "definition")
    page.click(".row")
    assert page.js("[...document.querySelectorAll('#detail pre > *')].map((it) => it.tagName + it.textContent.trim())") == [
        "SPANCREATE FUNCTION f()", "DEL- AS $$ 1 $$", "INS+ AS $$ 2 $$",
    ]  # fmt: skip
    search(page, "g0")
    page.click(".row")
    assert "\\u202e\\u001b[31m" in detail(page)
    shot(page, "detail")


def test_zoom(page: Chromium) -> None:
    box = "document.querySelector('#graph svg').getAttribute('viewBox').split(' ').map(Number)"
    whole = page.js(box)
    page.click("#in")
    assert page.js(box)[2] < whole[2]
    page.click("#fit")
    assert page.js(box) == whole


def test_a_hundred_thousand_changes_do_not_freeze_it(browser: Chromium, files: dict[str, Path]) -> None:
    browser.events.clear()
    browser.open(files["large"])
    assert status(browser) == f"{MANY + 44:,} of {MANY + 44:,} changes"
    browser.js(LONGEST)
    assert search(browser, "title 99999") == f"1 of {MANY + 44:,} changes"
    assert "k099999" in rows(browser)[0]
    assert search(browser, "k0") == f"{MANY:,} of {MANY + 44:,} changes"
    browser.js("document.getElementById('grid').focus()")
    browser.key("End")
    assert "k099999" in rows(browser)[-1]
    assert len(rows(browser)) < 100
    assert browser.js("window.longest") < 1_000  # generous: other work runs beside this
    assert browser.js("document.getElementsByTagName('*').length") < 3_000
    assert browser.errors() == []
    shot(browser, "large")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_dark_and_paper(page: Chromium, scheme: str) -> None:
    page.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])
    back = page.js("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    shot(page, scheme)
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    hidden = page.js(
        "['#grid', '.tools-bar', '#graph .tools'].map((it) => getComputedStyle(document.querySelector(it)).display)"
    )
    assert hidden == ["none", "none", "none"]
    page.js("dispatchEvent(new Event('beforeprint'))")
    assert page.js("[...document.querySelectorAll('details')].every((it) => it.open)")
    shot(page, f"print-{scheme}")
    page.call("Emulation.setEmulatedMedia", media="", features=[])

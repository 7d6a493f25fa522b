"""Views of whole plans: what they say, that they are bounded, that they depend on the plan alone."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.plan.file import Header, Plan
from reconciler.plan.step import Check, Deferred, Hazard, Step, Verb
from reconciler.views import dot, markdown, mermaid, text
from reconciler.views import json as json_view
from reconciler.views.edges import direct
from reconciler.views.fit import size
from reconciler.views.formats import FORMATS
from reconciler.views.overview import overview
from tests.views.plans import NASTY, PRODUCTION, Row, inserts, make, step

TRIGGER = "trigger trg_recommend_count on public.recommends writes public.documents.recommend_count: settled"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Inserts, updates, deletes and a sequence on two tables."""
    update: list[Row] = [
        (("u1",), {"data": '{"k": 1}', "n": "1"}, {"data": '{"k": 2}', "n": None}),
        (("u2",), {"data": '{"k": 1}', "n": "2"}, {"data": "null"}),
    ]
    new = step(Verb.INSERT)
    changed = step(Verb.UPDATE, needs=(new.id,), notes=("columns: data (2), n (1)", "1 row is kept"))
    gone = step(Verb.DELETE, "public.leaflets", address="collections.leaflets", needs=(changed.id, new.id))
    raised = step(Verb.SETVAL, "public.seq", key=("sequence",), columns={}, needs=(new.id,))
    header = Header(
        spec={"version": 1, "collections": {"documents": {}, "leaflets": {}}, "connections": {"production": {}}},
        connections=PRODUCTION,
        hazards=(Hazard("trigger", "collections.documents", TRIGGER),),
        deferred=(Deferred("processes.thumbnails", "reads what collections.documents changes"),),
    )
    keys = [f"at://did:plc:abcdefgh/site.standard.document/3k{n:03}" for n in range(71)]
    return make(
        tmp_path,
        [
            (new, inserts(keys)),
            (changed, update),
            (gone, [(("l1",), {"uri": "l1"}, None)]),
            (raised, [(("public.seq",), {"value": "41"}, {"value": "97"})]),
        ],
        header,
    )


def test_text(plan: Plan) -> None:
    assert text.render(plan) == (
        f"""\
  ! R006 {TRIGGER} (collections.documents)

  collections.documents  production public.documents
    + 71 rows      missing  at://did:plc…/3k000, …/3k001, …/3k002, … 68 more  ! R006
    ~  2 rows      differs  data (2), n (1)  ! R006
        1 row is kept
  collections.leaflets   production public.leaflets
    -  1 row       extra    l1
  collections.documents  production public.seq
    ~  1 sequence  differs  public.seq: 41 → 97  ! R006

  ? processes.thumbnails deferred: reads what collections.documents changes

Plan: 71 to insert, 2 to update, 1 to delete, 1 to setval · 4 steps · one transaction on production · id {plan.id}
"""
    )


def test_text_has_colour_only_when_asked(plan: Plan) -> None:
    assert "\x1b" not in text.render(plan)
    colored = text.render(plan, color=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == text.render(plan)


def test_nothing_to_do(tmp_path: Path) -> None:
    spec: dict[str, object] = {"version": 1, "collections": {"a": {}, "b": {}}, "connections": {"p": {}}}
    assert text.render(make(tmp_path, [], Header(spec=spec))) == "No changes. 2 resources are in sync.\n"
    deferred = Header(spec=spec, deferred=(Deferred("checks.x", "later"),))
    assert "No changes. " not in text.render(make(tmp_path, [], deferred))
    assert "? checks.x deferred: later" in text.render(make(tmp_path, [], deferred))
    for name, render in FORMATS.items():
        assert "".join(render(make(tmp_path, [], Header(spec=spec)))), name


def test_an_undone_update_keeps_its_column_summary(tmp_path: Path) -> None:
    rows: list[Row] = [(("u",), {"n": "1"}, {"n": "2"})]
    undone = make(tmp_path, [(step(Verb.UPDATE, notes=("undo of columns: n (1)",)), rows)])
    assert "n (1)" in text.render(undone)
    assert "columns" not in text.render(undone)


def test_sensitive_values_are_not_shown(tmp_path: Path) -> None:
    it = step(Verb.UPDATE, columns={"uri": "text", "n": "text sensitive"})
    plan = make(tmp_path, [(it, [(("u",), {"n": "canary1"}, {"n": "canary2"})])])
    for name in ("text", "markdown", "html", "mermaid", "dot", "sql"):
        assert "canary" not in "".join(FORMATS[name](plan)), name


def test_markdown(plan: Plan) -> None:
    comment = markdown.render(plan, file="plans/x.plan.jsonl")
    assert comment.startswith(f"{markdown.MARKER}\n\n## Plan `{plan.id}`: 71 to insert, 2 to update, 1 to delete")
    order = ["### Risks", "### Deferred", "| resource |", "<summary>Examples", "<summary>Order", "Apply it with"]
    places = [comment.index(part) for part in order]
    assert places == sorted(places)
    assert (
        "| `collections.documents` | production `public.documents` | `+` insert ❗R006 | 71 | missing |  |" in comment
    )
    assert '  - `data`: `{"k": 1}` → `{"k": 2}`' in comment
    assert "`n`: `1` → `null`" in comment
    assert '`"null"`' in comment
    assert f"`reconciler apply plans/x.plan.jsonl --id {plan.id}`" in comment
    assert "columns: " not in comment


def test_markdown_renders_as_meant(plan: Plan) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(plan))
    assert html.count("<details>") == html.count("</details>") == 2
    assert html.count("<tr>") == 1 + 4
    assert 'class="language-mermaid"' in html


def hostile(tmp_path: Path, nasty: str) -> Plan:
    """The same text wherever a plan can hold one."""
    it = step(
        Verb.UPDATE,
        f'public."t{nasty[:20].replace(chr(34), "")}"',
        columns={"uri": "text", nasty: "text"},
        notes=(f"columns: {nasty}", nasty),
    )
    header = Header(connections=PRODUCTION, hazards=(Hazard("x", nasty, nasty, 3),), deferred=(Deferred(nasty, nasty),))
    rows: list[Row] = [((nasty,), {nasty: nasty}, {nasty: f"{nasty}2"})]
    return make(tmp_path, [(it, rows)], header)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nasty=st.one_of(st.just(NASTY), st.text("`|\\<>&@#*_[]!~$\"'-\n\x1b\u202eab ", min_size=1, max_size=30)))
def test_data_cannot_act_in_any_view(tmp_path: Path, nasty: str) -> None:
    plan = hostile(tmp_path, nasty)
    comment = markdown.render(plan)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(comment)
    tags = set(re.findall(r"<(\w+)", html))
    wanted = {
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "code",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "pre",
    }
    assert tags <= wanted
    assert html.count("<details>") == html.count("</details>") == len(re.findall("^<details>", comment, re.M))
    for name, render in FORMATS.items():
        shown = "".join(render(plan))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown), name
        if name not in ("html", "json", "sarif", "sql", "text", "dot"):
            assert "<script" not in shown, name
            assert "@everyone" not in shown, name


def thousands(tmp_path: Path, tables: int, nasty: str = "") -> Plan:
    def steps() -> Iterator[tuple[Step, list[Row]]]:
        for at in range(tables):
            verb = Verb.DELETE if at % 10 == 9 else Verb.UPDATE
            after = None if verb is Verb.DELETE else {"n": "2" + nasty}
            it = step(verb, f"public.table_{at}", address=f"collections.table_{at}", notes=("columns: n (1)", nasty))
            yield it, [((f"key{nasty}{at}",), {"n": "1" + nasty}, after)]

    hazards = tuple(Hazard("trigger", f"collections.table_{at}", f"{TRIGGER} {nasty}") for at in range(tables))
    deferred = tuple(Deferred(f"checks.c{at}", nasty or "later") for at in range(tables))
    checks = tuple(Check(f"checks.d{at}", "warn", None, f"{at} rows {nasty}") for at in range(tables))
    return make(tmp_path, steps(), Header(connections=PRODUCTION, hazards=hazards, deferred=deferred, checks=checks))


def test_markdown_fits_a_comment_where_every_section_fills_its_room(tmp_path: Path) -> None:
    def steps() -> Iterator[tuple[Step, list[Row]]]:
        before: tuple[str, ...] = ()
        for at in range(100):
            target, address = f"public.t{at}{'x' * 100}", f"collections.c{at}{'y' * 90}"
            it = step(Verb.UPDATE, target, address=address, notes=("n" * 30,), needs=before)
            before = (it.id,)
            yield it, [((f"key{at}",), {"n": "1" * 60}, {"n": "2" * 60})]

    header = Header(
        connections=PRODUCTION,
        hazards=(Hazard("trigger", "a", "h" * 180),) * 59,
        deferred=(Deferred("a", "d" * 50),) * 66,
        checks=(Check("a", "warn", None, f"{'c' * 130}||||"),) * 20,
    )
    assert size(markdown.render(make(tmp_path, steps(), header), file="&" * 200)) <= markdown.LIMIT


@pytest.mark.parametrize("nasty", ["", NASTY * 20, "😀" * 400, "_" * 500])
def test_markdown_fits_a_comment_whatever_the_tables(tmp_path: Path, nasty: str) -> None:
    comment = markdown.render(thousands(tmp_path, 5000 if not nasty else 600, nasty))
    assert size(comment) <= markdown.LIMIT
    assert len(comment) > 20_000
    assert "more steps (" in comment
    assert re.search(r"left out\)</summary>", comment)
    assert comment.count("<details>") == comment.count("</details>")
    assert "Apply it with" in comment


def test_markdown_shows_what_is_destroyed_first(tmp_path: Path) -> None:
    table = markdown.render(thousands(tmp_path, 2000)).partition("| resource |")[2].partition("<details>")[0]
    verbs = re.findall(r"`[-~]` (\w+)", table)
    assert verbs == sorted(verbs)
    assert verbs[0] == "delete"
    assert re.search(r"more steps \(0 to insert, [\d,]+ to update, [\d,]+ to delete\)", table)


def test_views_do_not_grow_with_rows(tmp_path: Path) -> None:
    def lengths(rows: int) -> dict[str, int]:
        plan = make(tmp_path, [(step(Verb.INSERT), inserts(f"k{n:07}" for n in range(rows)))])
        bounded = ("text", "markdown", "sarif", "mermaid", "dot")
        return {name: len("".join(FORMATS[name](plan))) for name in bounded}

    few, many = lengths(10), lengths(5000)
    assert all(abs(many[name] - few[name]) < 40 for name in few)


def test_text_of_many_tables(tmp_path: Path) -> None:
    lines = text.render(thousands(tmp_path, 500)).splitlines()
    assert len(lines) < 500 * 6
    assert max(map(len, lines)) < 400


def test_views_depend_on_the_plan_alone(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "y.plan.jsonl"
    copy.write_bytes(plan.path.read_bytes())
    from reconciler.plan.file import read

    other = read(copy)
    for name, render in FORMATS.items():
        assert "".join(render(plan)) == "".join(render(other)), name


def test_json_has_terraforms_shape(plan: Plan) -> None:
    tree = json.loads("".join(json_view.render(plan)))
    changes = tree["resource_changes"]
    assert tree["format_version"] == "1.2"
    assert tree["reconciler"]["id"] == plan.id
    assert len(changes) == plan.changes_count
    assert [it["change"]["actions"] for it in changes[-5:]] == [
        ["create"],
        ["update"],
        ["update"],
        ["delete"],
        ["update"],
    ]
    assert {(it["type"], it["name"]) for it in changes} == {("collections", "documents"), ("collections", "leaflets")}
    update = next(it for it in changes if it["index"] == "u2")
    assert update["change"]["before"] == {"data": '{"k": 1}', "n": "2"}
    assert update["change"]["after"] == {"data": "null", "n": "2"}
    assert update["reconciler"]["changed"] == ["data"]
    assert len({it["address"] for it in changes}) == len(changes)


def test_json_of_many_changes_needs_little_memory(tmp_path: Path) -> None:
    plan = make(tmp_path, [(step(Verb.INSERT), inserts(f"k{n:07}" for n in range(5_000)))])
    tracemalloc.start()
    total = sum(len(piece) for piece in json_view.render(plan))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 1_500_000
    assert peak < 500_000


def test_graphs(plan: Plan) -> None:
    drawn = mermaid.render(plan)
    assert drawn.startswith("flowchart TD\n")
    assert "s0 --> s1" in drawn
    assert "s0 --> s2" not in drawn  # said by s0 --> s1 --> s2
    assert dot.render(plan).count(" -> ") == 3


def test_graphs_are_capped(tmp_path: Path) -> None:
    drawn = mermaid.render(thousands(tmp_path, 300))
    assert drawn.count("collections.table") == mermaid.MOST_NODES
    assert "100 more steps not drawn" in drawn


def test_steps_of_one_statement_stand_together(tmp_path: Path) -> None:
    steps = [step(Verb.INSERT, f"public.{name}", together="x") for name in "ab"]
    plan = make(tmp_path, [(it, inserts(["k"])) for it in steps])
    assert drawn_within(mermaid.render(plan), "subgraph", "end") == 2
    assert "cluster_0" in dot.render(plan)


def drawn_within(drawn: str, start: str, end: str) -> int:
    return drawn[drawn.index(start) : drawn.index(f"\n  {end}")].count("public.")


def test_resources_of_a_spec() -> None:
    nodes, edges = ["collections.a", "collections.b", 'x"y'], [("collections.a", "collections.b")]
    assert mermaid.resources(nodes, edges) == (
        'flowchart TD\n  r0["collections.a"]\n  r1["collections.b"]\n  r2["x#34;y"]\n  r0 --> r1\n'
    )
    assert '[label="x\\"y"]' in dot.resources(nodes, edges)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda edge: edge[0] < edge[1])))
def test_reduced_graphs_reach_the_same(pairs: list[tuple[int, int]]) -> None:
    import networkx as nx

    edges = [(str(one), str(other)) for one, other in pairs]
    whole: nx.DiGraph[str] = nx.DiGraph(edges)
    assert set(direct(edges)) == set(nx.transitive_reduction(whole).edges)


def test_a_long_chain_is_no_problem() -> None:
    edges = [(str(at), str(at + 1)) for at in range(3000)]
    assert direct(edges) == edges


def test_overview_groups_the_steps_of_a_resource(plan: Plan) -> None:
    assert [(it.address, it.target, len(it.steps)) for it in overview(plan).groups] == [
        ("collections.documents", "public.documents", 2),
        ("collections.leaflets", "public.leaflets", 1),
        ("collections.documents", "public.seq", 1),
    ]


def objects(tmp_path: Path, *, count: int = 2, body: str = "") -> Plan:
    """A function that changes, and others that come."""
    head = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$\n  -- the\n  -- same\n  -- here\n"
    was, will_be = {"sql": f"{head}SELECT 1{body}\n$$"}, {"sql": f"{head}SELECT 2{body}\n$$"}
    items = [(Verb.ALTER, "public.f()", was, will_be)]
    items += [(Verb.CREATE, f"public.g{n}({NASTY if body else 'integer'})", None, will_be) for n in range(count - 1)]
    steps: list[tuple[Step, list[Row]]] = [
        (
            step(verb, f"function {name}", address="sql_objects.mine", key=("kind", "name"), columns={"sql": "text"}),
            [(("function", name), before, after)],
        )
        for verb, name, before, after in items
    ]
    return make(tmp_path, steps, Header(connections=PRODUCTION))


def test_text_names_each_object_with_its_kind(tmp_path: Path) -> None:
    plan = objects(tmp_path)
    assert text.render(plan) == (
        f"""\
  sql_objects.mine  production
    ~ function public.f()          differs  +1 −1 lines
    + function public.g0(integer)  missing  +6 lines

Plan: 0 to insert, 0 to update, 0 to delete, 1 to create, 1 to alter · 2 steps · one transaction on production · id {plan.id}
"""
    )


def test_markdown_shows_what_of_a_definition_changes(tmp_path: Path) -> None:
    shown = markdown.render(objects(tmp_path))
    assert "<summary><code>function public&#46;f&#40;&#41;</code>: +1 −1 lines</summary>" in shown
    diff = shown.partition("```diff\n")[2].partition("```")[0].splitlines()
    assert diff[1:] == ["   -- the", "   -- same", "   -- here", "-SELECT 1", "+SELECT 2", " $$"]


def test_json_says_what_becomes_of_an_object(tmp_path: Path) -> None:
    changes = json.loads("".join(json_view.render(objects(tmp_path))))["resource_changes"]
    assert [(it["type"], it["change"]["actions"]) for it in changes] == [
        ("sql_objects", ["update"]),
        ("sql_objects", ["create"]),
    ]
    assert changes[0]["change"]["after"]["sql"].endswith("SELECT 2\n$$")


def test_definitions_are_bounded_and_cannot_break_out(tmp_path: Path) -> None:
    body = "\n".join(f"{NASTY} {'`' * (n % 9)} {n} 😀" + "x" * 300 for n in range(400))
    plan = objects(tmp_path, count=80, body=body)
    shown = markdown.render(plan)
    assert size(shown) <= markdown.LIMIT
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    tokens = MarkdownIt("commonmark").parse(shown)
    fences = [token for token in tokens if token.type == "fence"]
    assert fences
    assert {token.info for token in fences} <= {"diff", "mermaid"}
    outside = "".join(token.content for token in tokens if token.type in ("html_block", "inline"))
    assert "<script>" not in outside
    for render in FORMATS.values():
        whole = "".join(render(plan))
        assert "\x1b" not in whole

"""Each command calls what it should, prints what it got, and leaves with the code it means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import Result

from reconciler.cli import terminal
from reconciler.plan.errors import Exit, Location, ReconcilerError, SpecErrors
from reconciler.plan.file import read
from reconciler.plan.step import Check
from reconciler.spec import json_schema, load
from reconciler.systems.postgres.investigate import Investigation, Mass, Recorded
from reconciler.systems.postgres.losses import Again, Lost
from reconciler.views import markdown
from reconciler.views.formats import FORMATS
from tests.cli.conftest import Applied, FakeApp, Node, Spec, Status, StepOutcome

Run = Callable[..., Result]


def test_plan_prints_the_plan(app: FakeApp, run: Run) -> None:
    done = run("plan")
    assert done.exit_code == 0
    assert "+ 2 rows  missing  k1, k2" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    (called,) = app.called("plan")
    assert called["session"].paths == (Path("specs"),)
    assert (called["out"], called["only"], called["exclude"], called["now"]) == (None, (), (), None)
    assert len(app.called("discard")) == 1


def test_plan_passes_its_options_on(app: FakeApp, run: Run) -> None:
    Path("c.yaml").write_text("")
    done = run(
        *("plan", "a.yaml", "b", "--only", "collections.x", "--only", "collections.y", "--exclude", "checks.z"),
        *("--var", "did=did:plc:x=y", "--var", "empty=", "--connections", "c.yaml", "--now", "2026-01-01"),
    )
    assert done.exit_code == 0
    (called,) = app.called("plan")
    session = called["session"]
    assert session.paths == (Path("a.yaml"), Path("b"))
    assert session.variables == {"did": "did:plc:x=y", "empty": ""}
    assert session.connections == Path("c.yaml")
    assert "PATH" in session.environ
    assert called["only"] == ("collections.x", "collections.y")
    assert called["exclude"] == ("checks.z",)
    assert called["now"] == "2026-01-01"


def test_plan_saves_markdown_beside_the_plan(app: FakeApp, run: Run) -> None:
    Path("plans").mkdir()
    done = run("plan", "-o", "plans/x.plan.jsonl")
    plan = read(Path("plans/x.plan.jsonl"))
    assert Path("plans/x.plan.md").read_text() == markdown.render(plan, file="plans/x.plan.jsonl")
    assert f"reconciler apply plans/x.plan.jsonl --id {plan.id}" in done.stderr
    assert "Wrote plans/x.plan.jsonl and plans/x.plan.md" in done.stderr
    assert "Wrote" not in done.stdout
    assert app.called("plan")[0]["out"] == Path("plans/x.plan.jsonl")


def test_markdown_names_no_folder_of_this_machine(app: FakeApp, run: Run) -> None:
    out = app.folder / "x.plan.jsonl"
    assert run("plan", "-o", str(out)).exit_code == 0
    assert str(app.folder) not in (app.folder / "x.plan.md").read_text()


def test_a_page_that_is_no_plan_is_not_overwritten(app: FakeApp, run: Run) -> None:
    Path("README.md").write_text("# Mine\n", "utf-8")
    done = run("plan", "-o", "README")
    assert done.exit_code == 1
    assert "README.md is there already" in done.stderr
    assert Path("README.md").read_text("utf-8") == "# Mine\n"
    assert app.calls == []
    assert run("plan", "-o", "x").exit_code == 0
    assert run("plan", "-o", "x").exit_code == 0


def test_plan_is_not_saved_as_markdown(app: FakeApp, run: Run) -> None:
    assert run("plan", "-o", "x.md").exit_code == 1
    assert app.calls == []


@pytest.mark.parametrize(("keys", "code"), [(("k",), 2), ((), 0)])
def test_detailed_exitcode(app: FakeApp, run: Run, keys: tuple[str, ...], code: int) -> None:
    app.keys = keys
    assert run("plan").exit_code == 0
    done = run("plan", "--detailed-exitcode")
    assert done.exit_code == code
    assert ("No changes. 1 resource is in sync." in done.stdout) is (code == 0)


def test_plan_as_json(app: FakeApp, run: Run) -> None:
    tree = json.loads(run("plan", "--json").stdout)
    assert [it["change"]["actions"] for it in tree["resource_changes"]] == [["create"], ["create"]]
    assert len(app.called("discard")) == 1


def test_without_specs_the_way_out_is_told(app: FakeApp, run: Run) -> None:
    Path("specs").rmdir()
    done = run("plan")
    assert done.exit_code == 1
    assert "reconciler init" in done.stderr
    assert app.calls == []


@pytest.mark.parametrize("form", list(FORMATS))
def test_show(app: FakeApp, run: Run, form: str) -> None:
    plan = app.make(Path("x.plan.jsonl"))
    done = run("show", "x.plan.jsonl", "--format", form)
    assert done.exit_code == 0
    assert done.stdout == "".join(FORMATS[form](plan))


def test_a_plan_that_was_edited_is_refused(app: FakeApp, run: Run) -> None:
    app.make(Path("x.plan.jsonl"))
    text = Path("x.plan.jsonl").read_text()
    Path("x.plan.jsonl").write_text(text.replace("k2", "k3"))
    for command in ("show", "apply", "undo"):
        done = run(command, "x.plan.jsonl")
        assert done.exit_code == 1
        assert "this plan is refused" in done.stderr
    assert app.called("apply") == []


def test_apply_a_plan(app: FakeApp, run: Run) -> None:
    plan = app.make(Path("x.plan.jsonl"))
    app.applied = Applied(
        (StepOutcome("collections.t[public.t]/insert", applied=1, already=1), StepOutcome("b", blocked=2)),
        notes=("trigger t wrote public.u",),
    )
    done = run("apply", "x.plan.jsonl", "--id", plan.id)
    assert done.exit_code == 0
    assert done.stdout == (
        "  collections.t[public.t]/insert  1 applied, 1 already\n"
        "  b                               2 blocked\n\n"
        "Apply: 1 applied, 1 already, 2 blocked · converged: nothing is left to do\n"
    )
    assert done.stderr == "trigger t wrote public.u\n"
    (called,) = app.called("apply")
    assert called["plan"].id == plan.id
    assert called["session"].paths == ()
    assert called["lock_timeout"] == "10s"
    assert called["statement_timeout"] == "0"
    assert called["rehearse"] is False
    assert called["spec_dir"] is None
    assert app.called("discard") == []


def test_apply_passes_its_options_on(app: FakeApp, run: Run) -> None:
    app.make(Path("x.plan.jsonl"))
    Path("c.yaml").write_text("")
    done = run(
        *("apply", "x.plan.jsonl", "--rehearse", "--lock-timeout", "500ms", "--statement-timeout", "5min"),
        *("--connections", "c.yaml", "--spec-dir", "specs"),
    )
    assert done.exit_code == 0
    assert "Rehearsed and rolled back: 0 applied" in done.stdout
    (called,) = app.called("apply")
    assert (called["lock_timeout"], called["statement_timeout"]) == ("500ms", "5min")
    assert called["session"].connections == Path("c.yaml")
    assert called["spec_dir"] == Path("specs")
    assert called["rehearse"] is True


def test_apply_refuses_any_other_plan(app: FakeApp, run: Run) -> None:
    app.make(Path("x.plan.jsonl"))
    done = run("apply", "x.plan.jsonl", "--id", "0123456789abcdef")
    assert done.exit_code == 1
    assert "not 0123456789abcdef" in done.stderr
    assert app.called("apply") == []


@pytest.mark.parametrize("code", [Exit.ERROR, Exit.DRIFT, Exit.LIMIT, Exit.PARTIAL, Exit.INTERRUPTED])
def test_apply_leaves_with_the_code_of_its_outcome(app: FakeApp, run: Run, code: Exit) -> None:
    app.make(Path("x.plan.jsonl"))
    app.applied = Applied(code=code, converged=False, remaining=("2 rows of public.t still differ",))
    done = run("apply", "x.plan.jsonl")
    assert done.exit_code == code
    assert "NOT converged" in done.stdout
    assert "left: 2 rows of public.t still differ" in done.stderr


def test_apply_as_json(app: FakeApp, run: Run) -> None:
    plan = app.make(Path("x.plan.jsonl"))
    app.applied = Applied((StepOutcome("a", applied=1),), converged=None, code=Exit.PARTIAL)
    tree = json.loads(run("apply", "x.plan.jsonl", "--json").stdout)
    assert tree["id"] == plan.id
    assert tree["code"] == 5
    assert tree["converged"] is None
    assert tree["steps"][0]["applied"] == 1


def test_apply_a_spec_needs_somebody_or_yes(app: FakeApp, run: Run) -> None:
    done = run("apply", "specs")
    assert done.exit_code == 1
    assert "+ 2 rows" in done.stderr
    assert "--yes" in done.stderr
    assert app.called("apply") == []
    assert len(app.called("discard")) == 1
    assert run("apply", "--yes").exit_code == 0
    assert len(app.called("apply")) == 1
    assert len(app.called("discard")) == 2


@pytest.mark.parametrize(("answer", "code", "applies"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0), ("", 130, 0)])
def test_apply_a_spec_asks(
    app: FakeApp, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, applies: int
) -> None:
    monkeypatch.setattr(terminal, "somebody_is_there", lambda: True)
    done = run("apply", stdin=answer)
    assert "Apply these changes?" in done.stderr
    assert done.exit_code == code
    assert len(app.called("apply")) == applies
    assert len(app.called("discard")) == 1


def test_apply_a_spec_with_nothing_to_do_does_not_ask(app: FakeApp, run: Run) -> None:
    app.keys = ()
    assert run("apply").exit_code == 0
    assert app.called("apply") == []


@pytest.mark.parametrize(
    "args",
    [
        ("apply", "x.plan.jsonl", "specs"),
        ("apply", "x.plan.jsonl", "--var", "a=b"),
        ("apply", "x.plan.jsonl", "--lock-timeout", "10s; DROP"),
        ("apply", "absent.plan.jsonl"),
        ("plan", "--var", "novalue"),
        ("plan", "--var", "a=1", "--var", "a=2"),
        ("plan", "--nonsense"),
        ("show",),
        ("show", "x.plan.jsonl", "--format", "png"),
        ("extract",),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_1_since_2_means_changes(app: FakeApp, run: Run, args: tuple[str, ...]) -> None:
    app.make(Path("x.plan.jsonl"))
    done = run(*args)
    assert done.exit_code == 1
    assert done.stderr.strip()
    assert app.called("apply") == []


def test_undo(app: FakeApp, run: Run) -> None:
    app.make(Path("x.plan.jsonl"))
    done = run("undo", "x.plan.jsonl", "-o", "undo.plan.jsonl")
    assert done.exit_code == 0
    assert app.called("undo")[0]["out"] == Path("undo.plan.jsonl")
    assert Path("undo.plan.md").exists()


def test_status(app: FakeApp, run: Run) -> None:
    app.statuses = (Status("collections.a", in_sync=1200), Status("collections.b", missing=3, notes=("a note",)))
    done = run("status")
    assert done.exit_code == 2
    assert done.stdout == (
        "                                    in sync  missing  changed  extra  wrong\n"
        "collections.a  production public.t    1,200        0        0      0      0\n"
        "collections.b  production public.t        0        3        0      0      0\n"
        "    a note\n\n"
        "1 resource differs, 1 resource is in sync.\n"
    )
    tree = json.loads(run("status", "--json").stdout)
    assert [it["differs"] for it in tree["resources"]] == [False, True]
    app.statuses = app.statuses[:1]
    done = run("status", "--csv", "found")
    assert done.exit_code == 0
    assert done.stderr == "Wrote found/missing.csv\n"
    app.statuses = ()
    assert run("status").stdout == "0 resources are in sync.\n"


def test_extract(app: FakeApp, run: Run) -> None:
    done = run("extract", "-o", "kept")
    assert (done.exit_code, done.stdout) == (0, "3 rows of public.t\n")
    assert app.called("extract")[0]["out"] == Path("kept")


def test_investigate(app: FakeApp, run: Run) -> None:
    mass = Mass("public.t", "DELETE", 3, 4, "2025-01-01 10:00:00+00", "2025-01-01 10:00:00+00", "77", "pg", None, None, None,
                lost=(Lost("id", 3), Lost("thumb", 0), Lost("status", 3, "n\x1bew")), again=Again(0, ("path",)))  # fmt: skip
    recorded = Recorded("public.t", True, 1, {"DELETE": 3}, mass.first, mass.last, ("INSERT", "UPDATE"), ("INSERT",), 1)
    app.investigation = Investigation(
        "audit.log", "supa_audit", None, 3, mass.first, mass.last, 3, (recorded,), (("public.u", -1),), (mass,)
    )
    done = run(
        "investigate",
        "production",
        "--columns",
        "at=when,old=was",
        "--rows",
        "3",
        "--log",
        "audit.log",
        "--since",
        "2025-01-01",
    )
    assert done.exit_code == 0
    (called,) = app.called("investigate")
    del called["session"]
    assert called == {
        "connection": "production", "log": "audit.log", "since": "2025-01-01", "columns": {"at": "when", "old": "was"}, "rows": 3, "percent": 10,
    }  # fmt: skip
    for said in (
        "audit.log: 3 records from 2025-01-01 10:00:00 to 2025-01-01 10:00:00 UTC (supa_audit)",
        "public.t, 1 row now: DELETE 3",
        "never recorded: INSERT, UPDATE",
        "all rows that are there have no INSERT record",
        "neither record nor trigger: public.u",
        "all records do not say which program wrote them",
        "DELETE of 3 rows of public.t (75.0% of about 4) in one statement",
        "by pg, no application named, no address recorded, transaction 77",
        "3 rows, none had thumb",
        "all had status = n\\u001bew",
        "none of them stands in the table again under another key, told by path",
    ):
        assert said in done.stdout
    assert json.loads(run("investigate", "production", "--json").stdout)["masses"][0]["rows"] == 3
    assert "### Timeline" in run("investigate", "production", "--markdown").stdout
    assert run("investigate", "production", "--columns", "at").exit_code == 1
    assert run("investigate", "production", "--json", "--markdown").exit_code == 1


def test_a_failed_check_leaves_with_1(app: FakeApp, run: Run) -> None:
    app.statuses = (Status("checks.a", wrong=1, failed=True), Status("collections.b", missing=1))
    assert run("status").exit_code == 1
    app.applied = Applied(code=Exit.ERROR, checks=(Check("checks.a", "error", False, "1, 0 expected"),))
    done = run("apply", "--yes")
    assert done.exit_code == 1
    assert "checks.a fails: 1, 0 expected" in done.stdout


def test_cascade(app: FakeApp, run: Run) -> None:
    likes = Node("public.likes", "likes_fk", "CASCADE", ("post",), 1234, indexed=False)
    again = Node("public.posts", "posts_fk", "NO ACTION", ("parent",), None, repeated=True)
    app.tree = Node(
        "public.posts", rows=5, children=(Node("public.x", "x_fk", "SET NULL", ("p",), 0, children=(likes,)), again)
    )
    done = run("cascade", "production.posts")
    assert done.exit_code == 0
    assert done.stdout == (
        "public.posts  5 rows\n"
        "├─ public.x  0 rows  ON DELETE SET NULL by x_fk (p)\n"
        "│  └─ public.likes  1,234 rows  ON DELETE CASCADE by likes_fk (post)"
        "  ! no index on (post): every deleted row reads the whole table\n"
        "└─ public.posts  ON DELETE NO ACTION by posts_fk (parent)  … shown elsewhere in this tree\n"
    )
    tree = json.loads(run("cascade", "production.posts", "--json").stdout)
    assert tree["children"][0]["children"][0]["constraint"] == "likes_fk"


@pytest.mark.parametrize(("form", "start"), [("mermaid", "flowchart TD"), ("dot", "digraph")])
def test_graph(app: FakeApp, run: Run, form: str, start: str) -> None:
    done = run("graph", "--format", form)
    assert done.stdout.startswith(start)
    assert len(app.called("graph")) == 1


def test_validate(app: FakeApp, run: Run) -> None:
    app.spec = Spec((ReconcilerError("odd", where=Location("a.yaml", 3)),), ("collections.t", "checks.c"))
    done = run("validate")
    assert (done.exit_code, done.stdout) == (0, "2 resources ok\n")
    assert "a.yaml:3:1" in done.stderr
    tree = json.loads(run("validate", "--json").stdout)
    assert (tree["valid"], tree["resources"], tree["warnings"][0]["line"]) == (True, 2, 3)


def test_validate_as_json_tells_errors(app: FakeApp, run: Run) -> None:
    app.error = SpecErrors((ReconcilerError("one", where=Location("a.yaml", 1)), ReconcilerError("two")))
    done = run("validate", "--json")
    assert done.exit_code == 1
    tree = json.loads(done.stdout)
    assert tree["valid"] is False
    assert [it["what"] for it in tree["errors"]] == ["one", "two"]
    assert run("validate").stderr.count("error: ") == 2


def test_init_overwrites_nothing(app: FakeApp, run: Run) -> None:
    assert run("init", "new").exit_code == 0
    found = sorted(path.relative_to("new").as_posix() for path in Path("new").rglob("*") if path.is_file())
    wanted = [".env.example", ".gitignore", "plans/.gitkeep", "specs/reconciler.schema.json", "specs/starter.yaml"]
    assert found == wanted
    Path("new/specs/starter.yaml").write_text("mine")
    Path("new/.gitignore").write_text("*.log\n.env")
    Path("new/.env.example").unlink()
    assert run("init", "new").exit_code == 0
    assert Path("new/specs/starter.yaml").read_text() == "mine"
    assert Path("new/.gitignore").read_text() == "*.log\n.env\n.reconciler/\n"
    before = {path: path.read_bytes() for path in Path("new").rglob("*") if path.is_file()}
    assert run("init", "new").exit_code == 0
    assert before == {path: path.read_bytes() for path in Path("new").rglob("*") if path.is_file()}


def test_init_brings_no_example_to_specs_that_are_there(app: FakeApp, run: Run) -> None:
    Path("specs/mine.yaml").write_text("version: 1\n")
    assert run("init").exit_code == 0
    assert [path.name for path in Path("specs").glob("*.yaml")] == ["mine.yaml"]


def test_the_example_is_valid(app: FakeApp, run: Run) -> None:
    assert run("init").exit_code == 0
    spec = load([Path("specs")], environ={})
    assert list(spec.resources()) == ["collections.articles"]
    assert spec.warnings == ()
    schema = json.loads(Path("specs/reconciler.schema.json").read_text())
    assert schema == json_schema() == json.loads(run("schema").stdout)
    jsonschema.validate(yaml.safe_load(Path("specs/starter.yaml").read_text()), schema)


def test_what_the_example_suggests_is_valid_too(app: FakeApp, run: Run) -> None:
    assert run("init").exit_code == 0
    path = Path("specs/starter.yaml")
    path.write_text(re.sub(r"^    # (?=\w+: )", "    ", path.read_text(), flags=re.M))
    assert list(load([Path("specs")], environ={}).resources()) == ["collections.articles"]

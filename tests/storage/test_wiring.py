"""A spec's connection leads to its storage: by the API, by SQL, within the plan's snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kinds.world import opened
from reconciler.plan.errors import ReconcilerError
from reconciler.spec import Spec, load
from tests.storage.double import Double
from tests.storage.worlds import World

TEXT = """version: 1
connections:
  storage: { supabase: "${env:SUPABASE_URL}", key: "${env:SUPABASE_KEY}"%s }
"""


def spec_of(folder: Path, double: Double, *, sql: bool, **changed: str) -> Spec:
    (folder / "spec.yaml").write_text(TEXT % (', postgres: "${env:DATABASE_URL}"' if sql else ""))
    environ = {"SUPABASE_URL": double.url, "SUPABASE_KEY": double.key, "DATABASE_URL": double.dsn, **changed}
    return load([folder / "spec.yaml"], environ=environ)


@pytest.mark.parametrize("sql", [False, True])
def test_a_connection_lists_its_buckets(tmp_path: Path, api: World, double: Double, sql: bool) -> None:
    api.seed(["a.png", "b/c.png"])
    with opened(spec_of(tmp_path, double, sql=sql), snapshots=True) as world:
        storage = world.storage("storage", api.bucket)
        assert [found.name for found in storage.inventory(api.bucket)] == ["a.png", "b/c.png"]
        double.heal()
        list(storage.inventory(api.bucket))
        assert any("list-v2" in request for request in double.requests) is not sql
        planned = world.fingerprints()["storage"]
    assert planned["type"] == "supabase"
    assert double.url.partition("//")[2] not in str(planned)
    with opened(spec_of(tmp_path, double, sql=sql), snapshots=False) as world:
        assert world.is_same("storage", planned["fingerprint"])
        assert world.storage("storage").upload(api.bucket, "new", b"x").value == "applied"


def test_within_a_plan_the_database_stands_still(tmp_path: Path, api: World, double: Double) -> None:
    api.seed(["a"])
    with opened(spec_of(tmp_path, double, sql=True), snapshots=True) as world:
        storage = world.storage("storage", api.bucket)
        before = list(storage.inventory(api.bucket))
        api.seed(["b"])
        assert list(storage.inventory(api.bucket)) == before


def test_what_is_wrong_names_the_connection(tmp_path: Path, api: World, double: Double) -> None:
    for changed, said in (
        ({"SUPABASE_KEY": double.anon_key}, r"connections\.storage is of the role anon"),
        ({"SUPABASE_KEY": "sb_secret_canary"}, "looking up bucket"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x"}, "storage"),
    ):
        spec = spec_of(tmp_path, double, sql=True, **changed)
        with (
            opened(spec, snapshots=True) as world,
            pytest.raises(ReconcilerError, match=said) as raised,
        ):
            list(world.storage("storage", api.bucket).inventory(api.bucket))
        assert "canary" not in raised.value.render()
        assert double.anon_key not in raised.value.render()

"""Connections to buckets: as they are written, as they are resolved, and as a world opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kinds.world import opened
from reconciler.plan.errors import ReconcilerError
from reconciler.spec import DirectoryConnection, Spec, SupabaseConnection
from tests.spec.conftest import Loader

TEXT = """version: 1
connections:
  storage: { supabase: "${env:SUPABASE_URL}", key: "${env:SUPABASE_SERVICE_ROLE_KEY}", postgres: "${env:DATABASE_URL}" }
  media: { directory: ./media }
  rows: { files: rows }
"""
ENVIRON = {
    "SUPABASE_URL": "https://abcdefgh.supabase.co",
    "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_canary",
    "DATABASE_URL": "postgresql://u:canary@127.0.0.1:1/d",
}


def test_both_types_are_resolved_late(load_text: Loader) -> None:
    spec = load_text(TEXT, ENVIRON)
    storage = spec.connection("storage")
    assert isinstance(storage, SupabaseConnection)
    assert storage.url == ENVIRON["SUPABASE_URL"]
    assert storage.key.reveal() == ENVIRON["SUPABASE_SERVICE_ROLE_KEY"]
    assert storage.dsn is not None
    assert storage.dsn.reveal() == ENVIRON["DATABASE_URL"]
    assert "canary" not in repr(storage)
    assert spec.connection("media") == DirectoryConnection("media", Path.cwd() / "media")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SUPABASE_SERVICE_ROLE_KEY": ""}, "needs the environment variable SUPABASE_SERVICE_ROLE_KEY, which is empty"),
        ({"SUPABASE_URL": "postgresql://canary"}, "is no address of a project"),
        ({"DATABASE_URL": "https://canary"}, "is no PostgreSQL address"),
        ({"DATABASE_URL": "embedded"}, "is no PostgreSQL address"),
    ],
)
def test_what_the_environment_gives_is_judged_unseen(load_text: Loader, change: dict[str, str], said: str) -> None:
    with pytest.raises(ReconcilerError, match=said) as raised:
        load_text(TEXT, {**ENVIRON, **change}).connection("storage")
    assert "canary" not in raised.value.render()


def test_a_folder_is_opened_once_and_a_plan_belongs_to_its_buckets(load_text: Loader) -> None:
    spec = load_text(TEXT, ENVIRON)
    for bucket in ("a", "b"):
        Path("media", bucket).mkdir(parents=True)
    with opened(spec, snapshots=True) as world:
        assert world.is_storage("media")
        assert not world.is_storage("rows")
        assert world.storage("media", "b") is world.storage("media", "a")
        assert world.fingerprints() == {"media": {"type": "directory", "fingerprint": world.fingerprint("media")}}
        planned = world.fingerprint("media")
        assert [part.partition(":")[0] for part in planned.split()] == ["a", "b"]
    with opened(spec, snapshots=False) as world:
        assert world.is_same("media", planned)
        assert not world.is_same("media", "")
        assert not world.is_same("media", planned.replace("a:", "c:"))


def test_another_folder_or_project_is_another_storage(load_text: Loader, tmp_path: Path) -> None:
    Path("media").mkdir()
    text = TEXT.replace(', postgres: "${env:DATABASE_URL}"', "")

    def fingerprint(spec: Spec, name: str) -> str:
        with opened(spec, snapshots=False) as world:
            world.storage(name, "images")
            return world.fingerprint(name)

    here = load_text(text, ENVIRON)
    there = load_text(text.replace("./media", str(tmp_path)), {**ENVIRON, "SUPABASE_URL": "https://other.supabase.co"})
    for name in ("media", "storage"):
        assert fingerprint(here, name) == fingerprint(here, name) != fingerprint(there, name)
    assert "abcdefgh" not in fingerprint(here, "storage")


def test_what_is_no_storage_is_told_at_its_place(load_text: Loader) -> None:
    with opened(load_text(TEXT, ENVIRON), snapshots=True) as world:
        with pytest.raises(ReconcilerError, match="there is no folder media"):
            world.storage("media")
        with pytest.raises(ReconcilerError, match="rows holds no buckets") as raised:
            world.storage("rows")
    assert str(raised.value.where).startswith("spec.yaml:5")

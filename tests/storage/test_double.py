"""What the server of Supabase Storage was seen to do, one test a fact: of the double, and of a live server in its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import psycopg
import pytest
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError

from reconciler.systems.storage import read_signed_url
from tests.storage import tokens
from tests.storage.double import Double
from tests.storage.worlds import World


@dataclass
class Bare:
    """The server as anybody meets it: plain requests and the client library."""

    world: World
    http: httpx.Client
    client: SyncStorageClient

    @property
    def bucket(self) -> str:
        return self.world.bucket

    def post(self, path: str, body: object) -> Any:
        return self.http.post(path, json=body).json()

    def list_v1(self, prefix: str = "", bucket: str | None = None, **more: object) -> list[dict[str, Any]]:
        return self.post(f"object/list/{bucket or self.bucket}", {"prefix": prefix, **more})

    def list_v2(self, bucket: str | None = None, **more: object) -> dict[str, Any]:
        return self.post(f"object/list-v2/{bucket or self.bucket}", more)

    def upload(self, *names: str) -> None:
        for name in names:
            self.client.from_(self.bucket).upload(name, b"bytes", {"content-type": "image/png"})

    def names(self) -> list[str]:
        return [entry["name"] for entry in self.list_v2()["objects"]]

    def signed(self, name: str, seconds: int = 60) -> str:
        return self.client.from_(self.bucket).create_signed_url(name, seconds)["signedURL"] or ""


@pytest.fixture
def bare(make_world: Callable[[str], World]) -> Generator[Bare]:
    world = make_world("list v2")
    assert world.server is not None
    base = f"{world.server.url}/storage/v1/"
    headers = {"apikey": world.server.key, "Authorization": f"Bearer {world.server.key}"}
    with httpx.Client(base_url=base, headers=headers, verify=base.startswith("https:"), timeout=60) as http:
        yield Bare(world, http, SyncStorageClient(base, headers, http_client=http))


@pytest.fixture
def sql(bare: Bare) -> Callable[..., None]:
    """Statements past the API; of a live server they need its database."""
    assert bare.world.server is not None
    if bare.world.server.dsn is None:
        pytest.skip("the live server's database is not given")
    return bare.world.sql


def test_lists_are_capped_without_a_word(bare: Bare) -> None:
    bare.world.seed(f"{number:04d}" for number in range(1600))
    assert len(bare.list_v1()) == 100
    assert len(bare.list_v1(limit=5000)) == 1500
    assert len(bare.list_v2(limit=5000)["objects"]) == 1000
    assert len(cast("list[object]", bare.client.from_(bare.bucket).list("", {"limit": 5000}))) == 1500


def test_v1_has_folders_without_id_beside_files_of_the_same_name(bare: Bare) -> None:
    bare.world.seed(["dir", "dir/file", "other"])
    entries = bare.list_v1()
    assert sorted((entry["name"], entry["id"] is None) for entry in entries) == [
        ("dir", False), ("dir", True), ("other", False),
    ]  # fmt: skip


def test_v1_takes_a_prefix_for_a_folder_in_any_case_and_searches_beginnings(bare: Bare) -> None:
    bare.world.seed(["Dir/One", "Dir/two", "dire"])
    assert sorted(entry["name"] for entry in bare.list_v1("dIR")) == ["One", "two"]
    assert [entry["name"] for entry in bare.list_v1("Dir", search="on")] == ["One"]
    assert bare.list_v1("Dir", search="ne") == []


def test_v2_is_a_true_prefix_in_the_order_of_bytes_through_all_folders(bare: Bare) -> None:
    bare.world.seed(["a/b/c", "a-b", "aB", "A", "b"])
    page = bare.list_v2(prefix="a")
    assert [entry["name"] for entry in page["objects"]] == ["a-b", "a/b/c", "aB"]
    assert page["hasNext"] is False
    first = bare.list_v2(limit=2)
    assert first["hasNext"] is True
    assert first["nextCursor"] != first["objects"][-1]["name"]
    second = bare.list_v2(cursor=first["nextCursor"])
    assert [entry["name"] for entry in [*first["objects"], *second["objects"]]] == ["A", "a-b", "a/b/c", "aB", "b"]


def test_v2_passes_over_an_option_it_does_not_know(bare: Bare) -> None:
    bare.world.seed(["a", "b"])
    down = {"column": "name", "order": "desc"}
    assert [entry["name"] for entry in bare.list_v2(sort_by=down)["objects"]] == ["a", "b"]
    assert [entry["name"] for entry in bare.list_v2(sortBy=down)["objects"]] == ["b", "a"]


def test_a_missing_bucket_looks_empty(bare: Bare) -> None:
    assert bare.list_v1(bucket="no-such") == []
    assert bare.list_v2("no-such")["objects"] == []
    assert bare.client.from_("no-such").remove(["a"]) == []
    with pytest.raises(StorageApiError):
        bare.client.get_bucket("no-such")


def test_batches_are_of_a_thousand(bare: Bare) -> None:
    names = [str(number) for number in range(1001)]
    objects = bare.client.from_(bare.bucket)
    assert len(objects.create_signed_urls(names[:1000], 60)) == 1000
    for call in (lambda: objects.create_signed_urls(names, 60), lambda: objects.remove(names)):
        with pytest.raises(StorageApiError) as raised:
            call()
        assert str(raised.value.status) == "400"


def test_a_signed_url_says_for_what_and_until_when(bare: Bare) -> None:
    bare.upload("a.png")
    url = bare.signed("a.png", 3600)
    read = read_signed_url(url)
    assert read is not None
    assert (read.bucket, read.name) == (bare.bucket, "a.png")
    assert abs(read.expires - time.time() - 3600) < 30
    assert bare.http.get(url).content == b"bytes"


def test_an_expired_url_is_a_bad_token(bare: Bare) -> None:
    bare.upload("a.png")
    url = bare.signed("a.png", 1)
    time.sleep(2.1)
    answer = bare.http.get(url)
    assert answer.status_code == 400
    assert answer.json()["error"] == "InvalidJWT"


def test_a_url_of_before_a_move_leads_nowhere(bare: Bare) -> None:
    bare.upload("a.png")
    url = bare.signed("a.png")
    bare.client.from_(bare.bucket).move("a.png", "b.png")
    answer = bare.http.get(url)
    assert answer.status_code == 400
    assert answer.json()["statusCode"] == "404"


def test_a_row_without_bytes_passes_for_an_object_until_it_is_read(bare: Bare, sql: Callable[..., None]) -> None:
    sql(
        "INSERT INTO storage.objects (bucket_id, name, metadata, version) VALUES (%s, 'a.png', '{\"size\": 5}', %s)",
        bare.bucket,
        "00000000-0000-4000-8000-000000000000",
    )
    objects = bare.client.from_(bare.bucket)
    assert objects.info("a.png")["size"] == 5
    assert objects.exists("a.png")
    url = objects.create_signed_urls(["a.png"], 60)[0]["signedURL"]
    assert url is not None
    assert [bare.http.get(url).status_code, bare.http.head(url).status_code] == [500, 500]


def test_a_row_renamed_by_sql_has_lost_its_bytes(bare: Bare, sql: Callable[..., None]) -> None:
    bare.upload("a.png")
    sql("UPDATE storage.objects SET name = 'b.png' WHERE bucket_id = %s", bare.bucket)
    assert bare.names() == ["b.png"]
    assert bare.http.get(bare.signed("b.png")).status_code == 500


def test_rows_are_not_deleted_directly(bare: Bare, sql: Callable[..., None]) -> None:
    bare.upload("a.png")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as raised:
        sql("DELETE FROM storage.objects WHERE bucket_id = %s", bare.bucket)
    assert raised.value.sqlstate == "42501"
    assert bare.names() == ["a.png"]


def test_a_referenced_object_keeps_its_whole_batch(bare: Bare, sql: Callable[..., None]) -> None:
    bare.upload("a.png", "b.png")
    sql("CREATE TABLE kept (id uuid REFERENCES storage.objects (id))")
    try:
        sql("INSERT INTO kept SELECT id FROM storage.objects WHERE bucket_id = %s AND name = 'b.png'", bare.bucket)
        with pytest.raises(StorageApiError) as raised:
            bare.client.from_(bare.bucket).remove(["a.png", "b.png"])
        assert (str(raised.value.status), raised.value.code) == ("409", "ResourceReferenced")
        assert bare.names() == ["a.png", "b.png"]
    finally:
        sql("DROP TABLE kept")


def test_bytes_without_a_row_are_nowhere(bare: Bare, double: Double) -> None:
    bare.upload("a.png")
    before = len(list(double.folder.iterdir()))
    bare.world.sql("SET storage.can_delete = 'true'; DELETE FROM storage.objects")
    assert bare.names() == []
    assert len(list(double.folder.iterdir())) == before


def test_names_are_of_one_alphabet(bare: Bare) -> None:
    objects = bare.client.from_(bare.bucket)
    for name in ("é.png", "a#b", "a[1]", "a~", "a^b", 'a"b', "a<b", "a{b", "a`b", "a|b"):
        with pytest.raises(StorageApiError) as raised:
            objects.upload(name, b"x")
        assert raised.value.code == "InvalidKey", name
    good = "A-z0/9_!.*'() &$@=;:+,-"
    objects.upload(good, b"x")
    assert bare.names() == [good]


def test_a_move_may_lead_to_another_bucket(bare: Bare) -> None:
    bare.upload("a.png")
    body = {
        "bucketId": bare.bucket, "sourceKey": "a.png", "destinationKey": "b.png", "destinationBucket": bare.world.other,
    }  # fmt: skip
    assert bare.http.post("object/move", json=body).is_success
    assert bare.names() == []
    assert [entry["name"] for entry in bare.list_v2(bare.world.other)["objects"]] == ["b.png"]


def test_an_object_is_not_overwritten_unasked(bare: Bare) -> None:
    bare.upload("a.png", "b.png")
    objects = bare.client.from_(bare.bucket)
    for call in (
        lambda: bare.upload("a.png"),
        lambda: objects.copy("a.png", "b.png"),
        lambda: objects.move("a.png", "b.png"),
    ):
        with pytest.raises(StorageApiError) as raised:
            call()
        assert str(raised.value.status) == "409"


def test_keys_decide_what_is_seen(bare: Bare, double: Double) -> None:
    bare.upload("a.png")

    def seen(key: str) -> httpx.Response:
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        return bare.http.post(f"object/list-v2/{bare.bucket}", json={}, headers=headers)

    assert len(seen(double.secret_key).json()["objects"]) == 1
    assert seen(double.anon_key).json()["objects"] == []  # rows it may not see are not there
    assert seen("nonsense").status_code == 401
    assert seen(double.token("service_role", expires=1)).json()["statusCode"] == "403"
    assert seen(tokens.sign({"role": "service_role"}, "forged")).json()["statusCode"] == "403"

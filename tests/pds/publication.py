"""The world of `specs/publication-restore.yaml`: an account's publication in a database and in its repo, with the figures of a real case.

In: an account on a PDS and two databases. Out: both databases filled with the same rows, the repo with the same records and their
blobs; then what happened: an outside program deletes the records, and the rows go with them.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import httpx

from reconciler.systems.pds.records import cid_of_blob
from tests.pds.real import Account, Pds
from tests.pds.world import fill, key
from tests.postgres import Database

PUBLICATION, DOCUMENT = "site.standard.publication", "site.standard.document"
DOCUMENTS = 71
SUBSCRIPTIONS = 63
LEAFLETS = 72
MENTIONS = 17
DOMAINS = 3
BLOBS_OF = [2] * 13 + [1] * 4  # 30 references in 17 documents
OTHER = "did:plc:bobbobbobbobbobbobbobbob"

SCHEMA = """
CREATE TABLE identities (atp_did text PRIMARY KEY, email text UNIQUE);
CREATE TABLE bsky_profiles (did text PRIMARY KEY REFERENCES identities ON DELETE CASCADE, record jsonb NOT NULL);
CREATE TABLE bsky_posts (uri text PRIMARY KEY, cid text NOT NULL);
CREATE TABLE permission_tokens (id uuid PRIMARY KEY);
CREATE TABLE custom_domains (domain text PRIMARY KEY, identity text);
CREATE TABLE publications (
  uri text PRIMARY KEY, identity_did text NOT NULL REFERENCES identities ON DELETE CASCADE, name text NOT NULL, record jsonb,
  indexed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE documents (uri text PRIMARY KEY, data jsonb NOT NULL, indexed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE documents_in_publications (
  publication text REFERENCES publications ON DELETE CASCADE, document text REFERENCES documents ON DELETE CASCADE,
  indexed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (publication, document)
);
CREATE TABLE publication_subscriptions (
  publication text REFERENCES publications ON DELETE CASCADE, identity text REFERENCES identities ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(), record jsonb NOT NULL, uri text NOT NULL UNIQUE, PRIMARY KEY (publication, identity)
);
CREATE TABLE publication_domains (
  publication text REFERENCES publications ON DELETE CASCADE, domain text REFERENCES custom_domains ON DELETE CASCADE,
  identity text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (publication, domain)
);
CREATE TABLE leaflets_in_publications (
  publication text REFERENCES publications ON DELETE CASCADE, leaflet uuid REFERENCES permission_tokens ON DELETE CASCADE,
  doc text REFERENCES documents ON DELETE SET NULL, archived boolean, title text NOT NULL DEFAULT '',
  description text NOT NULL DEFAULT '', cover_image text, tags text[], PRIMARY KEY (publication, leaflet)
);
CREATE TABLE leaflets_to_documents (
  leaflet uuid REFERENCES permission_tokens ON DELETE CASCADE, document text REFERENCES documents ON DELETE CASCADE,
  title text NOT NULL, description text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (leaflet, document)
);
CREATE TABLE recommends_on_documents (
  uri text PRIMARY KEY, record jsonb NOT NULL, document text NOT NULL REFERENCES documents ON DELETE CASCADE,
  recommender_did text NOT NULL REFERENCES identities ON DELETE CASCADE, indexed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE comments_on_documents (
  uri text PRIMARY KEY, document text REFERENCES documents ON DELETE CASCADE, record jsonb NOT NULL,
  profile text REFERENCES bsky_profiles ON DELETE SET NULL, indexed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE document_mentions_in_bsky (
  uri text REFERENCES bsky_posts, document text REFERENCES documents ON DELETE CASCADE, link text NOT NULL,
  indexed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (uri, document)
);
"""


@dataclass(frozen=True)
class Contents:
    """The records by collection and key, the blobs they name, and the statements that make the rows."""

    records: dict[str, dict[str, str]]
    blobs: list[bytes]
    sql: str


def contents(did: str) -> Contents:
    """The same for an account whenever it is asked for."""
    chance = random.Random(4)
    blobs = [chance.randbytes(300 + 7 * number) for number in range(sum(BLOBS_OF))]
    names = iter(blobs)
    place = f"at://{did}/{PUBLICATION}/{key(1)}"
    publication = {"$type": PUBLICATION, "name": "Notes", "url": "https://notes.example.com", "description": None}
    documents: dict[str, str] = {}
    for number in range(DOCUMENTS):
        own = [_image(next(names)) for _ in range(BLOBS_OF[number // 4] if number % 4 == 0 and number < 68 else 0)]
        documents[key(100 + number)] = json.dumps(_document(number, place, own), ensure_ascii=False)
    of_publication = {key(1): json.dumps(publication)}
    return Contents(
        {PUBLICATION: of_publication, DOCUMENT: documents}, blobs, _rows(did, place, of_publication, documents)
    )


def _image(data: bytes) -> dict[str, object]:
    blob = {"$type": "blob", "ref": {"$link": cid(data)}, "mimeType": "image/png", "size": len(data)}
    return {"$type": "pub.leaflet.blocks.image", "image": blob, "aspectRatio": {"width": 16, "height": 9}, "alt": None}


def _document(number: int, publication: str, images: list[dict[str, object]]) -> dict[str, object]:
    """From 4 to 38 KB."""
    line = f"Line of document {number}: “ä€😀” and more of the same. "
    size = 3_600 + 470 * number
    text = (line * (size // len(line.encode()) + 1))[: size - 60]
    blocks = [
        {"$type": "pub.leaflet.blocks.text", "plaintext": text[at : at + 1_500]} for at in range(0, len(text), 1_500)
    ]
    return {
        "$type": DOCUMENT, "title": f"Document {number}", "site": publication, "path": f"/{number}", "tags": ["a", "b c"],
        "publishedAt": f"2026-01-{number % 28 + 1:02}T00:00:00.000Z", "textContent": None,
        "content": {"$type": "pub.leaflet.content", "pages": [{"blocks": [*images, *blocks], "order": number}]},
    }  # fmt: skip


def _rows(did: str, publication: str, publications: dict[str, str], documents: dict[str, str]) -> str:
    uris = [f"at://{did}/{DOCUMENT}/{rkey}" for rkey in documents]
    theirs = f"at://{OTHER}/{PUBLICATION}/{key(1)}"
    reader = "'did:plc:' || rpad('reader' || to_char({}, 'FM00'), 24, 'r')"
    leaflet = "('00000000-0000-4000-8000-' || to_char({}, 'FM000000000000'))::uuid"
    day = "'2026-02-01 00:00:00.000001+00'::timestamptz + n * interval '1 hour'"
    array = "ARRAY[" + ", ".join(_text(uri) for uri in uris) + "]"
    values = ",\n".join(
        f"({_text(uri)}, {_text(text)}, '2026-01-01 00:00:00.123456+00')"
        for uri, text in zip(uris, documents.values(), strict=True)
    )
    return f"""{SCHEMA}
INSERT INTO identities VALUES ('{did}', 'her@example.com'), ('{OTHER}', 'his@example.com');
INSERT INTO identities SELECT {reader.format("n")}, NULL FROM generate_series(1, {SUBSCRIPTIONS}) n;
INSERT INTO bsky_profiles SELECT {reader.format("n")}, '{{}}' FROM generate_series(1, 4) n;
INSERT INTO bsky_posts SELECT 'at://{OTHER}/app.bsky.feed.post/' || n, 'cid' || n FROM generate_series(1, 20) n;
INSERT INTO permission_tokens SELECT {leaflet.format("n")} FROM generate_series(1, 90) n;
INSERT INTO custom_domains SELECT 'notes' || n || '.example.com', '{did}' FROM generate_series(1, 4) n;
INSERT INTO publications VALUES
  ('{publication}', '{did}', 'Notes', {_text(next(iter(publications.values())))}, '2026-01-01 00:00:00.5+00'),
  ('at://{did}/pub.leaflet.publication/{key(1)}', '{did}', 'Notes, of old', '{{}}', '2025-01-01 00:00:00+00'),
  ('{theirs}', '{OTHER}', 'His', '{{}}', '2026-01-01 00:00:00+00');
INSERT INTO documents VALUES {values};
INSERT INTO documents VALUES ('at://{OTHER}/{DOCUMENT}/{key(1)}', '{{"title": "his"}}', '2026-01-01 00:00:00+00'),
  ('at://{did}/pub.leaflet.document/{key(1)}', '{{"title": "of old"}}', '2025-01-01 00:00:00+00');
INSERT INTO documents_in_publications SELECT '{publication}', d, {day} FROM unnest({array}) WITH ORDINALITY AS t (d, n);
INSERT INTO documents_in_publications VALUES ('{theirs}', 'at://{OTHER}/{DOCUMENT}/{key(1)}', '2026-01-01 00:00:00+00');
INSERT INTO publication_subscriptions SELECT '{publication}', {reader.format("n")}, {day}, '{{}}',
  'at://' || {reader.format("n")} || '/site.standard.graph.subscription/' || n FROM generate_series(1, {SUBSCRIPTIONS}) n;
INSERT INTO publication_subscriptions SELECT '{theirs}', {reader.format("n")}, {day}, '{{}}',
  'at://' || {reader.format("n")} || '/site.standard.graph.subscription/his' || n FROM generate_series(1, 5) n;
INSERT INTO publication_domains SELECT '{publication}', 'notes' || n || '.example.com', '{did}', {day}
  FROM generate_series(1, {DOMAINS}) n;
INSERT INTO leaflets_in_publications SELECT '{publication}', {leaflet.format("n")}, ({array})[n], NULL, 'Leaflet ' || n, 'about it', NULL,
  '{{a,"b c"}}' FROM generate_series(1, {LEAFLETS}) n;
INSERT INTO leaflets_in_publications VALUES ('{theirs}', {leaflet.format(80)}, '{uris[0]}', NULL, 'His, of hers', '', NULL, NULL),
  ('{theirs}', {leaflet.format(81)}, NULL, true, 'His', '', NULL, NULL);
INSERT INTO leaflets_to_documents SELECT {leaflet.format("80 + n")}, ({array})[n], 'Alone ' || n, '', {day} FROM generate_series(1, 2) n;
INSERT INTO recommends_on_documents SELECT 'at://' || {reader.format("n")} || '/pub.leaflet.interactions.recommend/' || n, '{{}}',
  ({array})[n], {reader.format("n")}, {day} FROM generate_series(1, 6) n;
INSERT INTO comments_on_documents SELECT 'at://' || {reader.format("n")} || '/pub.leaflet.comment/' || n, ({array})[1],
  jsonb_build_object('plaintext', 'comment ' || n), {reader.format("n")}, {day} FROM generate_series(1, 4) n;
INSERT INTO document_mentions_in_bsky SELECT 'at://{OTHER}/app.bsky.feed.post/' || n, ({array})[n], 'https://notes.example.com/' || n, {day}
  FROM generate_series(1, {MENTIONS}) n;
INSERT INTO document_mentions_in_bsky VALUES
  ('at://{OTHER}/app.bsky.feed.post/20', 'at://{OTHER}/{DOCUMENT}/{key(1)}', 'https://his.example.com', '2026-01-01 00:00:00+00');
"""


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def cid(data: bytes) -> str:
    return cid_of_blob(hashlib.sha256(data).digest())


def publish(pds: Pds, account: Account, world: Contents) -> None:
    """As the account did over the years, with records of other collections beside."""
    headers = {"authorization": f"Bearer {account.access}", "content-type": "image/png"}
    with httpx.Client(headers=headers, timeout=60, verify=False) as client:
        for data in world.blobs:
            assert client.post(f"{pds.url}/xrpc/com.atproto.repo.uploadBlob", content=data).status_code == 200
    for collection, texts in world.records.items():
        for rkey, text in texts.items() if collection == PUBLICATION else ():
            fill(pds, account, {rkey: text}, collection)
    documents = list(world.records[DOCUMENT].items())
    for at in range(0, len(documents), 20):  # a call takes a megabyte
        fill(pds, account, dict(documents[at : at + 20]), DOCUMENT)
    fill(pds, account, {key(1): '{"$type":"pub.leaflet.document","title":"of old"}'}, "pub.leaflet.document")


def destroy(pds: Pds, account: Account, world: Contents, production: Database) -> None:
    """What the outside program did, and what came in with the firehose."""
    writes = [
        {"$type": "com.atproto.repo.applyWrites#delete", "collection": collection, "rkey": rkey}
        for collection, texts in world.records.items()
        for rkey in texts
    ]
    pds.post("com.atproto.repo.applyWrites", {"repo": account.did, "writes": writes}, account.access)
    for table in ("publications", "documents"):
        production.sql(f"DELETE FROM {table} WHERE starts_with(uri, %s)", f"at://{account.did}/site.standard.")


def write_blobs(folder: Path, world: Contents) -> None:
    folder.mkdir(parents=True)
    for data in world.blobs:
        (folder / f"{cid(data)}.png").write_bytes(data)

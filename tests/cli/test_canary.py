"""No secret appears anywhere: passwords, the digest key and values of sensitive columns are looked for in all that is said and written.

Every command runs against real databases, and so does every error that has a secret at hand. `RECONCILER_DEBUG=1` is no part of it:
it says of itself that its traceback may hold data.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from click.testing import Result

from reconciler.embedded import Server
from reconciler.views.formats import FORMATS
from tests.postgres import Database

Run = Callable[..., Result]

PASSWORD, PART = "can@ry/pass word:9f3a", "canary-of-the-environment-71c2"
KEY = "canary-digest-key-5b1d" * 4
VALUE = "canary-value-e802"
CARD = "4929123412341234"
"""A value that is a number, and too great for the column it is to go to."""
SECRETS = {"password": PASSWORD, "environment": PART, "digest key": KEY, "value": VALUE, "card": CARD}
ROLES = {"canary_production": PASSWORD, "canary_backup": PART}
SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "postgresql://canary_backup:${env:PART}@127.0.0.1:%(port)s/%(backup)s" }
collections:
  people: { table: production.person, source: backup, sensitive: [secret], on_extra: delete, max_delete: 2 }
  pets: { table: production.pet, source: backup, sensitive: [owner] }
"""
SCHEMA = """
CREATE TABLE person (id int PRIMARY KEY, secret text UNIQUE, v text);
CREATE TABLE pet (id int PRIMARY KEY, owner text REFERENCES person (secret) ON DELETE CASCADE, v text);
"""


def forms(secret: str) -> set[str]:
    """How a text may be spelled by who means no harm; of base64 as it stands at any place of a longer text."""
    raw = secret.encode()
    shifted = {base64.b64encode(b"x" * n + raw).decode()[4 * (n > 0) : -4] for n in range(3)}
    whole = [raw, *(f"{secret}-{n}".encode() for n in range(10))]
    hashes = {digest(text).hexdigest() for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256) for text in whole}
    quoted = {quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return {secret, raw.hex(), raw.hex().upper(), *quoted, *shifted, *hashes}


FORMS = {name: forms(secret) for name, secret in SECRETS.items()}


def leaks(text: str, *but: str) -> dict[str, str]:
    """Which secrets are in the text, and where."""
    return {
        name: text[max(0, text.index(form) - 80) : text.index(form) + 80]
        for name, all_forms in FORMS.items()
        if name not in but
        for form in all_forms
        if form in text
    }


@dataclass
class Watched:
    """The command line in a folder of its own, all that it says and writes watched."""

    folder: Path
    run: Run
    production: Database
    backup: Database
    environ: dict[str, str] = field(default_factory=dict[str, str])

    def __call__(self, *args: str, code: int = 0, said: str = "", **environ: str) -> Result:
        done = self.run(*args, **(self.environ | environ))
        self.judge(done, args)
        assert done.exit_code == code, (args, done.output)
        assert said in done.output, (args, done.output)
        return done

    def judge(self, done: Result, args: tuple[str, ...]) -> None:
        """Nothing of what was said, and no file, holds a secret; and no error is one of our own."""
        assert leaks(done.stdout + done.stderr) == {}, args
        assert "internal error" not in done.stderr, (args, done.output)
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                values = ("value", "card") if "extracted" in path.parts else ()  # extract is there to hold rows
                assert leaks(path.read_text("utf-8", "replace"), *values) == {}, (args, path)

    def spec(self, text: str = SPEC) -> None:
        values = {"port": self.production.server.port, "backup": self.backup.name}
        (self.folder / "specs").mkdir(exist_ok=True)
        (self.folder / "specs" / "spec.yaml").write_text(text % values, "utf-8")

    def both(self, text: str) -> None:
        for database in (self.production, self.backup):
            database.sql(text)


@pytest.fixture(scope="session")
def asking(postgres_server: Server) -> Server:
    """The server trusts whoever is here; from now on not these two, of whom nobody else knows."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as session:
        for role, password in ROLES.items():
            session.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        lines = "".join(f"host all {role} 127.0.0.1/32 scram-sha-256\n" for role in ROLES)
        session.execute(
            "SELECT lo_from_bytea(77, %s::bytea || pg_read_binary_file(current_setting('hba_file')))", [lines.encode()]
        )
        session.execute("SELECT lo_export(77, current_setting('hba_file')), lo_unlink(77), pg_reload_conf()")
    for role in ROLES:
        for _ in range(500):
            try:
                psycopg.connect(postgres_server.dsn().replace("postgres@", f"{role}@")).close()
            except psycopg.OperationalError:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the server does not ask for a password")
    return postgres_server


@pytest.fixture
def watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, asking: Server, production: Database, backup: Database
) -> Watched:
    """Two databases that ask their owners for passwords, and a spec for them."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(folder))  # what is left there is looked at as well
    for database, role in zip((production, backup), ROLES, strict=True):
        database.sql(
            f"ALTER DATABASE {database.name} OWNER TO {role}; ALTER SCHEMA public OWNER TO {role}; SET ROLE {role}"
        )
    url = f"postgresql://canary_production:{quote(PASSWORD, safe='')}@127.0.0.1:{asking.port}/{production.name}"
    watched = Watched(folder, run, production, backup)
    watched.environ = {"PRODUCTION_URL": url, "PART": PART, "RECONCILER_DIGEST_KEY": KEY}
    watched.spec()
    return watched


@pytest.fixture
def people(watched: Watched) -> Watched:
    """Rows missing, changed and extra, each with a secret."""
    watched.both(SCHEMA)
    watched.backup.sql(f"""
        INSERT INTO person SELECT n, '{VALUE}-' || n, 'v' || n FROM generate_series(1, 6) n;
        INSERT INTO pet SELECT n, '{VALUE}-' || nullif(n, 2), 'w' || n FROM generate_series(1, 6) n;
    """)
    watched.production.sql(f"""
        INSERT INTO person VALUES (2, '{VALUE}-old', 'v2'), (3, '{VALUE}-3', 'was'), (4, '{VALUE}-4', 'v4'), (9, '{VALUE}-9', 'extra');
        INSERT INTO pet VALUES (3, '{VALUE}-4', 'w3'), (4, NULL, 'w4'), (9, '{VALUE}-9', 'goes along');
    """)
    return watched


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_looked_for_would_be_found(name: str) -> None:
    raw = SECRETS[name].encode()
    for n in range(4):
        assert name in leaks(base64.b64encode(b"y" * n + raw + b"z" * n).decode())
    for text in (raw.hex(), quote(raw.decode()), hashlib.sha256(raw).hexdigest(), f"- {raw.decode()} -"):
        assert name in leaks(text)
    assert leaks("nothing") == {}


def test_every_command(people: Watched) -> None:
    people("init", "elsewhere")
    people("validate", said="2 resources ok")
    people("validate", "--json")
    people("schema")
    people("graph")
    people("graph", "--format", "dot")
    people("status", code=2)
    people("status", "--json", code=2)
    people("status", "--csv", "findings", code=2)
    people("extract", "-o", "extracted")
    people("cascade", "production.person")
    people("cascade", "production.person", "--json")
    people("plan", said="rows  missing")
    people("plan", "--json")
    people("plan", "-o", "x.plan.jsonl", "--detailed-exitcode", code=2)
    for form in FORMATS:
        people("show", "x.plan.jsonl", "--format", form)
    people("undo", "x.plan.jsonl")
    people("undo", "x.plan.jsonl", "-o", "undo.plan.jsonl")
    people("apply", "x.plan.jsonl", "--rehearse")
    people("apply", "specs", code=1)
    people("apply", "x.plan.jsonl", said="converged")
    people("apply", "x.plan.jsonl", "--json", said="already")
    people("apply", "undo.plan.jsonl")
    people("apply", "specs", "--yes")
    people("plan", "--detailed-exitcode")


def test_connections_that_fail(people: Watched) -> None:
    people("plan", "-o", "x.plan.jsonl")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url, encoded = people.environ["PRODUCTION_URL"], quote(PASSWORD, safe="")
        broken = {
            url.replace(encoded, f"{encoded}wrong"): "refused the password",
            url.replace(str(people.production.server.port), str(port)): "nothing listens",
            url.replace("127.0.0.1", f"{PART}.invalid"): "host name",
            url.removesuffix(people.production.name) + PART: "no database of that name",
            url.replace(encoded, PASSWORD): "",
            f"{url}?sslmode={PART}": "",
            f"postgresql://x:{encoded}@[": "",
            f"host=127.0.0.1 password='{PART}": "",
            f"https://x:{encoded}@example.invalid/": "web address",
            PART: "",
        }  # fmt: skip
        for value, said in broken.items():
            for args in (
                ("validate",),
                ("plan",),
                ("status",),
                ("apply", "x.plan.jsonl"),
                ("cascade", "production.pet"),
            ):
                done = people.run(*args, **(people.environ | {"PRODUCTION_URL": value}))
                people.judge(done, args)
                assert done.exit_code == 1 or args == ("validate",), (args, done.output)
                assert said in done.stderr or args == ("validate",), (args, done.output)
    people("plan", code=1, said="PART", PART="")
    people("plan", code=1, said="refused the password", PART=f"{PART}x")
    people("plan", code=1, said="percent-encode", PART=f"{PART}/x")
    (people.folder / "other.yaml").write_text('connections: { production: { postgres: "${env:OTHER}" } }\n', "utf-8")
    people("plan", "--connections", "other.yaml", code=1, OTHER=f"postgresql://x:{PART}@127.0.0.1:{port}/x")


def test_a_digest_key_that_is_another_or_absent(people: Watched) -> None:
    people("plan", "-o", "x.plan.jsonl")
    people("apply", "x.plan.jsonl", code=3, RECONCILER_DIGEST_KEY=KEY + "x")
    people("apply", "x.plan.jsonl", code=1, said="RECONCILER_DIGEST_KEY", RECONCILER_DIGEST_KEY="")
    people("plan", code=1, said="RECONCILER_DIGEST_KEY", RECONCILER_DIGEST_KEY="")


@pytest.mark.parametrize(
    ("side", "change", "code"),
    [
        ("production", f"UPDATE person SET secret = '{VALUE}-new' WHERE id = 2", 3),
        ("production", f"UPDATE pet SET owner = '{VALUE}-3' WHERE id = 4", 3),
        ("production", f"UPDATE person SET secret = '{VALUE}-new' WHERE id = 3", 3),
        ("production", f"INSERT INTO person VALUES (1, '{VALUE}-new')", 3),
        ("production", "DELETE FROM person WHERE id = 2", 3),
        ("backup", f"UPDATE pet SET owner = NULL WHERE id = 5; UPDATE person SET secret = '{VALUE}-new' WHERE id = 5", 3),
        ("backup", f"ALTER TABLE pet DROP CONSTRAINT pet_owner_fkey; UPDATE pet SET owner = '{VALUE}-new' WHERE id = 1", 3),
    ],
)  # fmt: skip
def test_drift(people: Watched, side: str, change: str, code: int) -> None:
    people("plan", "-o", "x.plan.jsonl")
    (people.production if side == "production" else people.backup).sql(change)
    people("apply", "x.plan.jsonl", code=code)


@pytest.mark.parametrize(
    "change",
    [
        # planning sees these
        f"INSERT INTO person VALUES (8, '{VALUE}-5')",
        "ALTER TABLE person ADD CHECK (secret <> v || secret), ADD CHECK (length(secret) < 5) NOT VALID",
        "ALTER TABLE person ALTER secret TYPE varchar(21)",
        f"ALTER TABLE person ADD EXCLUDE (lower(secret) WITH =); INSERT INTO person VALUES (8, upper('{VALUE}-1234'))",
        "ALTER TABLE pet ADD FOREIGN KEY (owner) REFERENCES person (secret) ON UPDATE CASCADE",
        f"CREATE DOMAIN few AS text CHECK (VALUE <> '{VALUE}-5'); ALTER TABLE person ALTER secret TYPE few",
    ],
)
def test_constraints_that_refuse(people: Watched, change: str) -> None:
    """Whether planning sees it or the database only when it is applied."""
    people("plan", "-o", "x.plan.jsonl")
    people.production.sql(change)
    for args in (("plan",), ("apply", "x.plan.jsonl"), ("apply", "specs", "--yes")):
        done = people.run(*args, **people.environ)
        people.judge(done, args)


def test_specs_that_fail(people: Watched) -> None:
    for options, args, code, said in (
        ("where: nonsense(secret)", ("plan",), 1, "nonsense"),
        ("where: secret", ("plan",), 1, ""),
        ("where: secret::int > 0", ("plan",), 1, ""),
        ("where: secret::json IS NULL", ("status",), 1, ""),
        ("where: secret::timestamptz IS NULL", ("status", "--csv", "findings"), 1, ""),
        ("where: secret::float4 > 0", ("extract", "-o", "extracted"), 1, ""),
        ("where: secret::uuid IS NULL", ("apply", "specs", "--yes"), 1, ""),
        ("on_extra: delete, max_delete: 1", ("plan",), 4, "max_delete"),
        ("key: [secret]", ("plan",), 1, "sensitive"),
        ("on_missing_parent: skip", ("plan",), 0, ""),
    ):
        people.spec(SPEC.replace("on_extra: delete, max_delete: 2", options))
        people(*args, code=code, said=said)


def test_a_statement_that_takes_too_long(people: Watched) -> None:
    people.production.sql("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(9); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON pet FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    people("apply", "specs", "--yes", "--statement-timeout", "300ms", code=1, said="--statement-timeout")


def test_a_parent_that_is_gone(people: Watched) -> None:
    people.spec(SPEC.replace("person, source: backup", "person, source: backup, where: id > 3"))
    people("plan", code=1, said="constraint pet_owner_fkey")
    people.spec(SPEC.replace("sensitive: [owner]", "sensitive: [owner], on_missing_parent: null"))
    people("plan")


FILES = """\
version: 1
connections: { production: { postgres: "${env:PRODUCTION_URL}" }, files: { files: rows } }
collections: { t: { table: production.t, source: files, sensitive: [secret, n, at, mood, few, tags] } }
"""
ROWS = [
    f'{{"id": 1, "secret": "{VALUE}", "n": "{VALUE}"}}',
    f'{{"id": 1, "secret": "{VALUE}", "n": {{"{VALUE}": 1}}}}',
    f'{{"id": 1, "secret": "{VALUE}"',
    f'{{"id": 1, "secret": "{VALUE}", "at": "{VALUE}"}}',
    f'{{"id": 1, "{VALUE}"}}',
    f'["{VALUE}"]',
    f'{{"id": null, "secret": "{VALUE}"}}',
    f'{{"id": 1, "secret": "{VALUE}"}}\n{{"id": 1, "secret": "{VALUE}"}}',
    f'{{"id": 1, "mood": "{VALUE}", "few": "{VALUE}"}}',
    f'{{"id": 1, "few": "{VALUE}"}}',
    f'{{"id": 1, "tags": "{VALUE}"}}',
]


def bad_file(watched: Watched, name: str, text: str) -> None:
    """What is said of it holds nothing that is in it."""
    folder = watched.folder / "specs" / "rows"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    done = watched.run("plan", **watched.environ)
    assert done.exit_code == 1, (text, done.output)
    assert "collections.t: " in done.stderr or name in done.stderr, (text, done.output)
    assert leaks(done.stdout + done.stderr) == {}, text
    assert "internal error" not in done.stderr, text
    (folder / name).unlink()


@pytest.fixture
def filed(watched: Watched) -> Watched:
    """A table whose rows are in files."""
    watched.production.sql("""
        CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN few AS text CHECK (length(VALUE) < 3);
        CREATE TABLE t (id int PRIMARY KEY, secret text, n int, at date, mood mood, few few, tags text[]);
    """)
    watched.spec(FILES)
    return watched


def test_files_that_do_not_fit(filed: Watched) -> None:
    for row in ROWS:
        bad_file(filed, "t.jsonl", row)
        bad_file(filed, "t.json", f"[{row}]")
        try:
            values = dict[str, object](json.loads(row))
        except (TypeError, ValueError):
            continue
        bad_file(filed, "t.csv", ",".join(values) + "\n" + ",".join(str(value) for value in values.values()) + "\n")
    bad_file(filed, "t.csv", f'id,secret\n1,"{VALUE}')
    bad_file(filed, "t.csv", f"id,secret\n1,{VALUE},{VALUE}\n")


def test_a_csv_without_its_header(filed: Watched) -> None:
    bad_file(filed, "t.csv", f"1,{VALUE}\n")


TYPES = ("int8 CHECK (card < 9)", "numeric(4)", "varchar(4)", "date", "bool", "inet", "bit(2)", "box")


def unfit(watched: Watched, *types: str) -> None:
    watched.backup.sql(f"CREATE TABLE t (id int PRIMARY KEY, card text); INSERT INTO t VALUES (1, '{CARD}')")
    watched.spec(SPEC[: SPEC.index("  people:")] + "  t: { table: production.t, source: backup, sensitive: [card] }\n")
    for type_ in types:
        watched.production.sql(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, card {type_})")
        watched("apply", "specs", "--yes", code=1)


def test_a_value_that_does_not_fit_its_new_type(watched: Watched) -> None:
    unfit(watched, *TYPES)


def test_a_value_that_is_too_great_for_its_new_type(watched: Watched) -> None:
    unfit(watched, "int")


def test_a_trigger_that_says_what_it_sees(people: Watched) -> None:
    people.production.sql("""
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'bad % here', NEW.secret; END $$;
        CREATE TRIGGER tell BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION tell();
    """)
    people("apply", "specs", "--yes", code=1)

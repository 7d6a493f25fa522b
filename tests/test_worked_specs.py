"""The specs that come with the project are right, and so is the schema beside them."""

from __future__ import annotations

import json
from pathlib import Path

from reconciler.cli.init import SPEC
from reconciler.spec import json_schema, load

SPECS = Path(__file__).parent.parent / "specs"


def test_every_worked_spec_loads_and_names_its_schema() -> None:
    assert load([SPECS], environ={}).resources()
    for path in SPECS.glob("*.yaml"):
        assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=reconciler.schema.json\n")


def test_the_story_of_the_images_is_told_with_the_worked_spec() -> None:
    story = (SPECS.parent / "tests" / "scenarios" / "device_images.txt").read_text("utf-8")
    for path in (SPECS / "device-images.yaml", SPECS / "sql" / "resume_helpers.sql"):
        assert path.read_text("utf-8").replace("DEVICES_DATABASE_URL", "PRODUCTION_URL") in story


def test_the_story_of_the_catalog_is_told_with_the_worked_spec() -> None:
    story = (SPECS.parent / "tests" / "scenarios" / "catalog_thumbnails.txt").read_text("utf-8")
    assert (SPECS / "catalog-thumbnails.yaml").read_text("utf-8").replace(
        "CATALOG_DATABASE_URL", "PRODUCTION_URL"
    ) in story


def test_the_starter_is_what_init_writes_and_its_story_is_told_with_it() -> None:
    starter = (SPECS / "starter.yaml").read_text("utf-8")
    assert starter == SPEC
    story = (SPECS.parent / "tests" / "scenarios" / "starter.txt").read_text("utf-8")
    assert starter.replace(":DATABASE_URL", ":PRODUCTION_URL").replace(":BACKUP_DATABASE_URL", ":BACKUP_URL") in story


def test_a_page_restores_rows_and_records() -> None:
    spec = load([SPECS / "publication-restore.yaml"], environ={}, variables={"did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz"})
    assert spec.document.pds_records["documents"].target() == ("pds", "did:plc:ewvi7nxzyoun6zhxrhs64oiz")
    needs = {address: it.needs for address, it in spec.resources().items()}
    assert needs["pds_records.publications"] == ("collections.what_the_cascade_took",)


def test_the_schema_beside_them_is_the_program_s() -> None:
    assert json.loads((SPECS / "reconciler.schema.json").read_text("utf-8")) == json_schema()

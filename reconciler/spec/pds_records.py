"""`pds_records`: records of one collection of one repo, as a source has them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import Discriminator, Field, Tag

from reconciler.plan.names import TableName
from reconciler.spec.collection import ColumnName, Condition, InlineRows, Limit, SourceTable, connection_and_table
from reconciler.spec.models import Resource, Strict
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.references import NAME
from reconciler.spec.sql_objects import wrong_path
from reconciler.spec.values import Path, describe

_REPO = re.compile(rf"({NAME})\.(did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-])")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NSID = re.compile(rf"[a-zA-Z][a-zA-Z0-9-]{{0,62}}(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}")


class CarFile(Strict):
    """A backup of a whole repo."""

    car: ColumnName = Field(
        description="A CAR file, within the folder of the specs; it has keys and records already.",
        examples=["backup.car"],
    )


class Blobs(Strict):
    """Where the bytes of blobs are."""

    place: ColumnName = Field(
        alias="from",
        description="A folder, or a CAR file that holds blobs, within the folder of the specs; or connection.folder of a "
        "`files` connection; or connection.bucket of a `supabase` or `directory` one. A blob is found by its name, which is its "
        "CID, or by its size and content.",
        examples=["blobs", "backup.car", "media.blobs"],
    )


def _form(value: object) -> str:
    if isinstance(value, CarFile) or (isinstance(value, dict) and "car" in value):
        return "a CAR file"
    return "a mapping" if isinstance(value, Strict) else describe(cast(object, value))


RecordSource: TypeAlias = Annotated[
    Annotated[ColumnName, Tag("text")]
    | Annotated[InlineRows, Tag("a mapping")]
    | Annotated[CarFile, Tag("a CAR file")],
    Discriminator(
        _form,
        custom_error_type="shape",
        custom_error_message="a source is connection.table, { rows: [{…}] } or { car: file }",
    ),
]
RecordKeys: TypeAlias = Annotated[
    Annotated[ColumnName, Tag("text")]
    | Annotated[Annotated[tuple[ColumnName, ...], Field(strict=False, min_length=1)], Tag("a list")],
    Discriminator(
        describe, custom_error_type="shape", custom_error_message='rkeys are a pattern such as "3k*", or a list'
    ),
]


class PdsRecords(Resource):
    """Records of a collection on a PDS."""

    repo: str = Field(
        min_length=1,
        description="connection.did: the connection of the PDS and whose repo it is. The plan is refused for any other.",
        examples=["pds.${did}"],
    )
    collection: str = Field(
        min_length=1, description="The collection's name, an NSID.", examples=["site.standard.document"]
    )
    source: RecordSource = Field(
        description="Where the records are as they should be: connection.table, { rows: [{…}] } or { car: file }.",
        examples=["backup.documents"],
    )
    where: Condition | None = Field(
        None,
        description="The scope: an SQL condition that the source's table is read with, variables as :name.",
    )
    rkey: ColumnName | None = Field(
        None, description="The column that holds the record's key; of an at-uri its last segment is the key."
    )
    record: ColumnName | None = Field(
        None, description="The JSON column that holds the whole record. Either this or `fields`."
    )
    fields: dict[ColumnName, ColumnName] | None = Field(
        None,
        description="The record's fields, each with the column it is taken from; $type is the collection, and a column "
        "that is NULL leaves its field out.",
        examples=[{"title": "title", "publishedAt": "published_at"}],
    )
    blobs: Blobs | None = Field(None, description="Where the bytes of blobs come from that the PDS lacks.")
    on_changed: Literal["update", "keep"] = Field(
        "update", description="What to do where both sides have the record and it differs."
    )
    on_extra: Literal["keep", "delete"] = Field(
        "keep",
        description="What to do with records that only the repo has; delete needs `rkeys` and `max_delete`.",
    )
    rkeys: RecordKeys | None = Field(
        None,
        description="Which records are meant, on both sides: a pattern with * ? [ ], or a list of keys. Default: all.",
        examples=["3k*", ["self"]],
    )
    max_delete: Limit = Field(
        0,
        description="How many records may be deleted at most: a number, or a share of the scope such as "
        '"5%", rounded down.',
    )
    validation: Literal["off", "on", "known"] = Field(
        "off",
        alias="validate",
        description="Whether the PDS checks records against their lexicon: never, always, or where it knows it.",
    )

    def target(self) -> tuple[str, str]:
        """The connection and the DID."""
        match = _REPO.fullmatch(self.repo)
        if match is None:
            raise ValueError(f"`{self.repo}` is no connection.did")
        return match[1], match[2]

    def table(self) -> SourceTable | None:
        """The table that the records come from, of a source that is one; without a name it is the collection's own."""
        if not isinstance(self.source, str):
            return None
        connection, table = connection_and_table(self.source)
        return SourceTable(connection, table or TableName(None, self.collection))


def report_pds_records(records: PdsRecords, at: Path, problems: Problems) -> None:
    """Note everything in the resource that contradicts itself."""
    if _REPO.fullmatch(records.repo) is None:
        todo = 'write repo: "pds.${did}", where pds is the connection and did a variable, or the DID itself'
        problems.add(f"{dotted((*at, 'repo'))} names no connection and DID", (*at, "repo"), todo=todo)
    if _NSID.fullmatch(records.collection) is None:
        todo = "write a name such as site.standard.document"
        problems.add(f"`{records.collection}` is no collection of records", (*at, "collection"), todo=todo)
    for field in records.fields or ():
        if field == "$type":
            problems.add("`$type` is always the collection", (*at, "fields", field), key=True, todo="leave it out")
    if isinstance(records.source, CarFile):
        _of_car(records, records.source, at, problems)
    else:
        if records.rkey is None:
            problems.add(f"`rkey` is missing in {dotted(at)}", (*at, "rkey"), todo="write rkey: column")
        if records.record is None and not records.fields:
            todo = "write record: column, or fields: { name: column }"
            problems.add(f"`record` is missing in {dotted(at)}", (*at, "record"), todo=todo)
        elif records.record is not None and records.fields:
            problems.add("`fields` cannot stand beside `record`", (*at, "fields"), key=True, todo="write one of them")
    if isinstance(records.source, InlineRows) and records.where is not None:
        todo = "leave out the rows that are not meant"
        problems.add("`where` needs a table", (*at, "where"), key=True, todo=todo)
    if isinstance(records.source, str):
        try:
            connection_and_table(records.source)
        except ValueError as error:
            problems.add(str(error), (*at, "source"), todo="write connection.table")
    if records.on_extra == "delete" and records.rkeys is None:
        problems.add(
            "on_extra: delete needs `rkeys`",
            (*at, "on_extra"),
            why="a source seldom has all that a repo should hold, so which records are meant has to be said",
            todo='write rkeys: "3k*", a list of keys, or "*" for every record of the collection',
        )
    if (records.blobs and ".." in re.split(r"[/\\]", records.blobs.place)) or _absolute(records):
        todo = "write it relative to the folder of the specs, or as connection.folder"
        problems.add("blobs.from leads out of the folder of the specs", (*at, "blobs", "from"), todo=todo)


def _absolute(records: PdsRecords) -> bool:
    return records.blobs is not None and wrong_path(records.blobs.place) is not None


def _of_car(records: PdsRecords, source: CarFile, at: Path, problems: Problems) -> None:
    for word in ("where", "rkey", "record", "fields"):
        if getattr(records, word) is not None:
            why = "a CAR file holds records with their keys"
            todo = 'choose records with rkeys: "3k*"' if word == "where" else "leave it out"
            problems.add(f"`{word}` does not go with a CAR file", (*at, word), key=True, why=why, todo=todo)
    if why := wrong_path(source.car):
        problems.add(
            f"`{source.car}` cannot be the file", (*at, "source", "car"), why=why, todo="put it beside the specs"
        )

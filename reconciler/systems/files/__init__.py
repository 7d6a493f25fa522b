"""Rows in files: `<table>.jsonl`, `.ndjson`, `.json` or `.csv` in a folder, or one JSON file of arrays."""

from reconciler.systems.files.reader import FileSource, find
from reconciler.systems.files.writer import MANIFEST, write_manifest, write_table

__all__ = ["MANIFEST", "FileSource", "find", "write_manifest", "write_table"]

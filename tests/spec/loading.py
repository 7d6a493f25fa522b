"""Load any text as a spec: it is read, or it is an error of ours, and nothing else can happen."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import load


def load_whatever(text: str) -> str:
    """The errors as they would be shown, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            spec = load([file], environ={})
        except ReconcilerError as error:
            return error.render().replace(folder, "")
        spec.canonical()
        for name in spec.document.connections:
            try:
                spec.connection(name)
            except ReconcilerError as error:
                error.render()
    return ""

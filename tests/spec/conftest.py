"""Specs written to a temporary folder and loaded from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reconciler.spec import Spec, load

Loader = Callable[..., Spec]


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Load one file of this text, standing in an otherwise empty working directory."""
    monkeypatch.chdir(tmp_path)

    def loader(text: str, environ: Mapping[str, str] | None = None, **variables: str) -> Spec:
        Path("spec.yaml").write_bytes(text.encode())
        return load([Path("spec.yaml")], environ=environ or {}, variables=variables)

    return loader

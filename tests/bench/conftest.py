"""What is measured is compiled, as pip leaves what it installs: PYTHONDONTWRITEBYTECODE would have each command compile it again."""

from __future__ import annotations

import compileall

import pytest

import reconciler


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    compileall.compile_dir(reconciler.__path__[0], quiet=1)

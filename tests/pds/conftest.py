"""A real PDS, one a test process, and accounts on it."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from reconciler.embedded.pds import Installation, UnavailableError, installation
from tests.pds.real import Account, Pds, running


@pytest.fixture(scope="session")
def pds_installation() -> Installation:
    """Without it tests are skipped, but not where everything is to be tested."""
    try:
        return installation()
    except UnavailableError as error:
        told = f"the PDS cannot be installed: {error.why}\n" + "\n".join(error.details)
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)


@pytest.fixture(scope="session")
def pds(pds_installation: Installation) -> Generator[Pds]:
    """A PDS that counts nothing."""
    with running(pds_installation) as server:
        yield server


@pytest.fixture(scope="session")
def strict_pds(pds_installation: Installation) -> Generator[Pds]:
    """A PDS with its rate limits on."""
    with running(pds_installation, {"PDS_RATE_LIMITS_ENABLED": "true"}) as server:
        yield server


@pytest.fixture
def account(pds: Pds) -> Account:
    return pds.account()

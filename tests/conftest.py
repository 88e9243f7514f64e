"""What every test may ask for."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sandbox import Sandbox, sandbox
from migrate.run import Run


@pytest.fixture
def run() -> Iterator[Run]:
    """A Run in a short-named folder: pytest's own names are longer than a unix socket's path may be."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder:
        yield Run(Path(folder))


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    """Magalu Cloud on this machine, one for all slow tests: give what you make in it a name of your own, and plan no faults."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder, sandbox(Run(Path(folder))) as started:
        yield started

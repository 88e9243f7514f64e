"""What every test may ask for."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.run import Run


@pytest.fixture
def run() -> Iterator[Run]:
    """A Run in a short-named folder: pytest's own names are longer than a unix socket's path may be."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder:
        yield Run(Path(folder))

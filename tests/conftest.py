"""What every test may ask for."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from adapters.sandbox import Sandbox, sandbox
from fixtures.emulators.aws import Account, aws
from fixtures.emulators.azure import Cloud, azure
from migrate.run import Run

# How long an example takes is no claim of ours, and a busy machine must fail no test.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")


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


@pytest.fixture(scope="session")
def aws_account() -> Iterator[Account]:
    """An AWS account on this machine, one for all slow tests: make an instance of your own in it, and take back the faults that you plan."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder, aws(Run(Path(folder)), Path(folder) / "aws") as account:
        yield account


@pytest.fixture(scope="session")
def azure_cloud() -> Iterator[Cloud]:
    """An Azure subscription on this machine, one for all slow tests: make a VM of your own in it, and take back the faults that you plan."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder, azure(Run(Path(folder))) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser for our pages."""
    program = shutil.which("chromium-headless-shell")
    assert program, "apt-get install chromium-headless-shell (group tests of migrate/system-packages.txt)"
    with sync_playwright() as playwright:
        # As root, as in CI, it starts without a sandbox only; what it opens is our own page.
        opened = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()

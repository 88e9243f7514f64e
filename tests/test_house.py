"""The house is in order: linters, types and floors are tests."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports",),
    ],
    ids=" ".join,
)
def test_the_linter_has_nothing_to_say(command: tuple[str, ...]) -> None:
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["migrate", "adapters", "remediations"])
def test_each_import_package_belongs_to_us_alone(package: str) -> None:
    assert set(packages_distributions()[package]) == {"magalu-migrate"}


def test_every_system_package_has_a_proof_that_is_there() -> None:
    from migrate.doctor import SystemPackage, system_packages

    there = [package for package in system_packages() if package.group != "bench"]  # `make bench` installs those
    missing: list[SystemPackage] = [package for package in there if not package.present]
    assert missing == []

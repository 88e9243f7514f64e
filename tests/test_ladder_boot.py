"""A real VMware guest without a network: a bundle makes it whole, and without cloud-init our own unit makes it reachable, as its boot shows."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fixtures.machines import built
from migrate.guests.bundle import read_bundle
from migrate.guests.bundling import make_bundle, release, repositories
from migrate.run import Run
from tests.program import APPLIANCE_CACHE, PROGRAM, Answer, asked

pytestmark = pytest.mark.slow

NO_NETWORK = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--net")


def installed(changes: dict[str, Any]) -> dict[str, list[str]]:
    """The packages that are installed, by where they come from."""
    return {
        effect["origin"]: [package["name"] for package in effect["install"]]
        for effect in changes["effects"]
        if effect["effect"] == "packages" and effect["install"]
    }


def codes(changes: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in changes["findings"]}


def test_a_bundle_that_bundle_make_made_serves_a_guest_on_a_machine_without_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "d12"
    made = asked("bundle", "make", "--for", "debian:12", folder, "--output", "json")
    assert made.code == 0, made
    assert asked("bundle", "check", folder).code == 0
    preview: list[str | Path] = [PROGRAM, "preview", built("debian12-vmware"), "--bundle", folder, "--output", "json"]
    said = subprocess.run(
        [*NO_NETWORK, *preview], capture_output=True, text=True, check=False, env={**os.environ, **APPLIANCE_CACHE}
    )
    changes = json.loads(said.stdout)["changes"]
    (origin,) = installed(changes)
    assert origin == read_bundle(folder).origin
    assert {"cloud-init", "openssh-server", "cloud-guest-utils"} <= set(installed(changes)[origin])
    assert not codes(changes) & {"CLOUD-005", "CLOUD-006", "CLOUD-007"}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """The guest migrated with a bundle that has an SSH server and growpart, and no cloud-init."""
    work = tmp_path_factory.mktemp("w")
    wanted = release("debian:12")
    make_bundle(Run(work), work / "poor", wanted, ["openssh-server", "cloud-guest-utils"], [], repositories(wanted, []))
    words: list[str | Path] = [
        "vm",
        built("debian12-vmware"),
        "--sandbox",
        "--name",
        "without-cloud-init",
        "--output",
        "json",
    ]
    return asked(*words, "--offline", "--bundle", work / "poor", "--work", work / "jobs")


def test_what_could_be_had_was_installed_and_what_not_was_told(migrated: Answer) -> None:
    assert migrated.code == 0, migrated
    changes = migrated.json["changes"]
    (origin,) = installed(changes)
    assert origin.startswith("the bundle poor of ")
    assert {"openssh-server", "cloud-guest-utils"} <= set(installed(changes)[origin])
    assert codes(changes) >= {"CLOUD-006", "CLOUD-007"}
    assert not codes(changes) & {"CLOUD-008", "SSH-013"}
    (told,) = (finding["text"] for finding in changes["findings"] if finding["code"] == "CLOUD-006")
    assert "apt finds no way to install" in told and "cloud-init" in told
    assert told.endswith("the guest's own repositories: not asked, as --offline says)")


def test_the_proof_holds_without_cloud_init(migrated: Answer) -> None:
    proof = migrated.json["proof"]
    claims = {claim["name"]: claim for claim in proof["claims"]}
    assert proof["held"], proof
    assert migrated.json["login"] == proof["user"] == "operador"
    assert (
        claims["cloud-init"]["evidence"] == "it is not installed; a unit of ours has set up this instance in its place"
    )
    assert claims["root-grew"]["needed"] and claims["root-grew"]["held"]
    assert claims["host-keys"]["held"] and claims["units"]["held"]


def test_the_unit_says_on_the_console_what_it_did(migrated: Answer) -> None:
    console = "\n".join(migrated.json["proof"]["console"])
    assert "magalu-migrate: the instance's key opens operador" in console
    assert "is set up" in console

"""fstab mounts nothing that only the old place has, and nothing that lies on it."""

import subprocess
from pathlib import Path

import pytest

from fixtures.guests import guest
from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations import VENDORS
from remediations.vendors import foreign_mount_removal, vendor
from tests.remediation_guests import applied, done, outcome

MOUNTS = foreign_mount_removal(VENDORS)
AZURE = foreign_mount_removal((vendor("azure"),))


def after(fstab: str) -> str:
    return (
        outcome(done(from_yaml(f"files: {{/etc/fstab: {fstab!r}}}\n".replace("'", '"')), AZURE)).get("/etc/fstab")
        or fstab
    )


def test_the_resource_disk_goes_with_its_swap_file_and_what_is_bound_from_it() -> None:
    text = outcome(done(guest("rhel9-azure-rhui"), AZURE))["/etc/fstab"]
    who = "# magalu-migrate: switched off, because it"
    assert text == (
        "UUID=3c0f2f5e-0000-4000-8000-00000000000a / xfs defaults 0 0\n"
        f"{who} mounts Azure's temporary disk, which does not come along\n"
        "#/dev/disk/cloud/azure_resource-part1 /mnt/resource ext4 defaults,nofail 0 2\n"
        f"{who} needs what was on /mnt/resource, which does not come along\n"
        "#/mnt/resource/swapfile none swap sw 0 0\n"
        f"{who} needs what was on /mnt/resource, which does not come along\n"
        "#/mnt/resource/cache /var/cache/app none bind 0 0\n"
        # a disk of its own, nearer to what is bound from it
        "UUID=beef0000-0000-4000-8000-000000000001 /mnt/resource/dados xfs defaults,nofail 0 0\n"
        "/mnt/resource/dados/home /srv/home none bind,nofail 0 0\n"
    )


def test_what_is_given_up_is_told_with_its_vendors() -> None:
    assert [
        (finding.code, finding.text) for finding in done(guest("ubuntu2204-azure-three-clouds"), MOUNTS).findings
    ] == [
        ("AWS-007", "/dev/sdb1, mounted on /mnt, is AWS or Azure's and does not come along, nor does what was on it."),
        (
            "VMW-007",
            ".host:/projetos, mounted on /mnt/hgfs, is VMware's and does not come along, nor does what was on it.",
        ),
    ]


def test_a_swap_file_on_the_guests_own_disk_stays_wherever_it_is() -> None:
    own = from_yaml(
        "files:\n  /etc/fstab: '/mnt/swapfile none swap sw 0 0'\n  /mnt/swapfile: {content: SWAPSPACE2, mode: 0o600}\n"
    )
    assert done(own, AZURE).effects == ()


@pytest.mark.parametrize(
    "line",
    [
        # cloud-init's comment at another place, the place without the comment, a comment, what the system needs
        "UUID=x /dados xfs defaults,nofail,comment=cloudconfig 0 2\n",
        "UUID=x /mnt xfs defaults,nofail 0 2\n",
        "#/dev/disk/cloud/azure_resource-part1 /mnt auto defaults 0 2\n",
        "/dev/disk/cloud/azure_resource-part1 /var xfs defaults 0 2\n",
        "/dev/disk/cloud/azure_resource-part1 / xfs defaults 0 2\n",
        "half\n",
    ],
)
def test_other_lines_stay(line: str) -> None:
    assert after(line) == line


def test_findmnt_finds_nothing_wrong_with_what_is_written(run: Run, tmp_path: Path) -> None:
    for name in ("rhel9-azure-rhui", "centos7-azure-swap", "ubuntu2204-azure-three-clouds"):
        to = applied(run, guest(name), MOUNTS)
        table = tmp_path / "fstab"
        table.write_text(to.load("/etc/fstab").text)  # type: ignore[union-attr]
        said = subprocess.run(
            ["findmnt", "--fstab", "--tab-file", table, "--noheadings", "--raw", "--output", "TARGET"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert not {"/mnt", "/mnt/resource", "/mnt/hgfs", "/srv/tmp", "/var/cache/app"} & set(said.stdout.split())
        assert "parse error" not in said.stderr

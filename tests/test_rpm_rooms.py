"""RPM guests in both rooms: what the preview named is removed and installed by the guest's own rpm, and nothing else changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.machines.rpm import repository, tree
from migrate.draft import Draft
from migrate.effects import PackageEdit
from migrate.errors import GuestError
from migrate.guest import File, Guest, Kind, Link
from migrate.guests.rooms import Choice, Rooms
from migrate.remediate import preview, remediate
from migrate.remediation import Settings, remediation
from migrate.run import Run
from remediations import BUILTIN
from tests.guest_disks import ext4_disk, overlay_of, served

pytestmark = pytest.mark.slow

ROOMS = Rooms(kvm=False)

UNWANTED = ("open-vm-tools", "WALinuxAgent", "WALinuxAgent-udev", "python-azure-agent", "hyper-v", "hyperv-daemons")


@remediation("remove-agents", "Remove the agents", sources=("none",))
def remove_agents(draft: Draft, settings: Settings) -> None:
    """The agents of other clouds are gone."""
    draft.purge(*(name for name in UNWANTED if name in draft.packages), why="belongs to a cloud that is left")


@remediation("install-agents", "Install cloud-init", sources=("none",))
def install_agents(draft: Draft, settings: Settings) -> None:
    """cloud-init and the SSH server are there."""
    server = "openssh" if draft.os.family == "suse" else "openssh-server"
    draft.install("cloud-init", server, why="is what gives a machine its key")


STEPS = (remove_agents, install_agents)

GONE = {
    "rocky9": {
        *("WALinuxAgent", "WALinuxAgent-udev", "erp-vm-monitor", "hyperv-daemons"),
        *("open-vm-tools", "open-vm-tools-desktop", "esmtp"),
    },
    "leap15": {"python-azure-agent", "hyper-v"},
}
COME = {
    "rocky9": {"cloud-init", "cloud-utils-growpart", "dhcp-client", "openssh", "openssh-server", "python3-jinja2"},
    "leap15": {"cloud-init", "growpart"},
}
ENABLED = {
    "rocky9": {
        "/etc/systemd/system/multi-user.target.wants/vmtoolsd.service",
        "/etc/systemd/system/multi-user.target.wants/erp-monitor.service",
        "/etc/systemd/system/multi-user.target.wants/cloud-init.service",
    },
    "leap15": set[str](),
}
"""What the packages' own scripts switch off and on: systemctl makes and removes these links."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A stand-in guest on a disk, and the repository that it knows."""

    name: str
    disk: Path
    asked: list[str]


@pytest.fixture(params=["rocky9", "leap15"])
def machine(request: pytest.FixtureRequest, run: Run) -> Iterator[Machine]:
    name: str = request.param
    (run.work / "repository").mkdir()
    with repository(run.work / "repository", name) as served:
        root = tree(run.work / "root", name, repository=served.uri, key=served.key, trusted=name == "leap15")
        yield Machine(name, ext4_disk(run.work / "disk.raw", root, mib=64), served.asked)


def everything(guest: Guest, path: str = "/") -> dict[str, object]:
    """Every path with what is there: kind, mode, owner, content."""
    found: dict[str, object] = {}
    for name in guest.names(path):
        inner = f"{path.rstrip('/')}/{name}"
        if guest.kind(inner) is not Kind.OTHER:
            found[inner] = guest.load(inner)
        if guest.kind(inner) is Kind.FOLDER and inner != "/lost+found":
            found |= everything(guest, inner)
    return found


def owned(guest: Guest, names: set[str]) -> set[str]:
    return set[str]().union(*(guest.files_of(name) for name in names if name in guest.packages))


def is_folder_of(path: str, paths: set[str]) -> bool:
    return any(each.startswith(f"{path}/") for each in paths)


@pytest.mark.parametrize("choice", [Choice.OVERLAY, Choice.APPLIANCE])
def test_what_was_named_goes_and_comes_and_nothing_else_changes(run: Run, machine: Machine, choice: Choice) -> None:
    with served(run, machine.disk, "raw") as uri:
        overlay = overlay_of(run.work / "overlay.qcow2", uri)
        with ROOMS.look(run, uri, None) as guest:
            before, had = everything(guest), dict(guest.packages)
            files = owned(guest, GONE[machine.name] | COME[machine.name])
            said = preview(run, guest, STEPS, Settings())
            assert everything(guest) == before
        with Rooms(kvm=False, choice=choice).repair(run, uri, overlay, None) as repair:
            assert remediate(run, repair.guest, STEPS, Settings(), "remediate").effects == said.effects
            repair.finish()
        with served(run, overlay, "qcow2") as repaired, ROOMS.look(run, repaired, None) as guest:
            assert preview(run, guest, STEPS, Settings()).effects == ()
            after, has = everything(guest), dict(guest.packages)
            files |= owned(guest, COME[machine.name])
    changes = [effect.change for effect in said.effects if isinstance(effect, PackageEdit)]
    assert {package.name for change in changes for package in change.remove} == GONE[machine.name]
    assert {package.name for change in changes for package in change.install} == COME[machine.name]
    assert set(has) == (set(had) - GONE[machine.name]) | COME[machine.name]
    untouched = set(had) - GONE[machine.name] - COME[machine.name]
    assert {name: has[name] for name in untouched} == {name: had[name] for name in untouched}
    # Exactly: what the named packages own, rpm's database, folders that came and went with them, links that their scripts ask systemctl for.
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    of_rpm = {path for path in changed if path.startswith(("/var/lib/rpm/", "/usr/lib/sysimage/rpm/"))}
    folders = {path for path in changed if is_folder_of(path, files | ENABLED[machine.name])}
    assert changed - files - of_rpm - folders - ENABLED[machine.name] == set()
    assert all(before.get(path) is None or after.get(path) is None for path in folders)


@pytest.mark.parametrize("machine", ["rocky9"], indirect=True)
def test_all_remediations_keep_the_law_on_a_real_package_database(run: Run, machine: Machine) -> None:
    with served(run, machine.disk, "raw") as uri:
        with ROOMS.look(run, uri, None) as guest:
            said = preview(run, guest, BUILTIN, Settings())
        with Rooms(kvm=False, choice=Choice.OVERLAY).repair(
            run, uri, overlay_of(run.work / "overlay.qcow2", uri), None
        ) as repair:
            assert remediate(run, repair.guest, BUILTIN, Settings(), "remediate").effects == said.effects
            assert preview(run, repair.guest, BUILTIN, Settings()).effects == ()
            left = {name for name in repair.guest.packages if name.lower().startswith(("open-vm", "wa", "hyperv"))}
            assert left == set()


@pytest.mark.parametrize("machine", ["rocky9"], indirect=True)
def test_scripts_start_nothing_make_no_identity_and_build_no_initramfs(run: Run, machine: Machine) -> None:
    with served(run, machine.disk, "raw") as uri:
        overlay = overlay_of(run.work / "overlay.qcow2", uri)
        with Rooms(kvm=False, choice=Choice.OVERLAY).repair(run, uri, overlay, None) as repair:
            guest = repair.guest
            remediate(run, guest, STEPS, Settings(), "remediate")
            assert guest.kind("/var/log/dracut-was-run") is Kind.MISSING
            assert [name for name in guest.names("/etc/ssh") if "host" in name] == []
            assert guest.kind("/etc/vmware-tools") is Kind.MISSING  # and no tools.conf.rpmsave in it
            wants = "/etc/systemd/system/multi-user.target.wants"
            assert guest.names(wants) == ("NetworkManager.service", "cloud-init.service")
            assert isinstance(guest.load(f"{wants}/cloud-init.service"), Link)


@pytest.mark.parametrize("machine", ["leap15"], indirect=True)
def test_suse_s_initrd_is_not_rebuilt_by_a_package(run: Run, machine: Machine) -> None:
    with (
        served(run, machine.disk, "raw") as uri,
        Rooms(kvm=False, choice=Choice.OVERLAY).repair(
            run, uri, overlay_of(run.work / "overlay.qcow2", uri), None
        ) as repair,
    ):
        remediate(run, repair.guest, STEPS, Settings(), "remediate")
        assert repair.guest.kind("/var/log/dracut-was-run") is Kind.MISSING


@pytest.mark.parametrize("machine", ["rocky9"], indirect=True)
def test_a_package_manager_that_does_something_else_is_an_error(run: Run, machine: Machine) -> None:
    """The guest's rpm says that all went well, and has done nothing."""
    with (
        served(run, machine.disk, "raw") as uri,
        Rooms(kvm=False, choice=Choice.OVERLAY).repair(
            run, uri, overlay_of(run.work / "overlay.qcow2", uri), None
        ) as repair,
    ):
        guest = repair.guest
        change = guest.plan_packages(remove=("WALinuxAgent",))
        guest.store("/usr/bin/rpm-itself", guest.load("/usr/bin/rpm"))
        lying = '#!/bin/sh\ncase "$1" in --erase) exit 0;; esac\nexec /usr/bin/rpm-itself "$@"\n'
        guest.store("/usr/bin/rpm", File(lying.encode(), 0o755))
        with pytest.raises(GuestError, match=r"rpm did not do what was planned: WALinuxAgent-2\.7"):
            guest.change_packages(change)

"""Enabling and disabling units: by rule, and side by side with the real systemctl on the same tree."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from migrate.draft import Draft
from migrate.guest import Entry, File, Link
from migrate.guests.memory import MemoryGuest
from remediations import systemd
from remediations.systemd import Install, install_section

SSH = """\
[Unit]
Description=OpenBSD Secure Shell server

[Service]
ExecStart=/usr/sbin/sshd -D

[Install]
WantedBy=multi-user.target
Alias=sshd.service
"""
NETWORKD = """\
[Install]
WantedBy=multi-user.target
Also=systemd-networkd.socket
Alias=dbus-org.freedesktop.network1.service
Also=systemd-networkd-wait-online.service
"""
WAIT = "[Install]\nWantedBy=network-online.target\n"
SOCKET = "[Socket]\nListenNetlink=route 1361\n[Install]\nWantedBy=sockets.target\n"
GETTY = "[Service]\nExecStart=/sbin/agetty %I\n[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n"

UNITS = {
    "/usr/lib/systemd/system/ssh.service": SSH,
    "/usr/lib/systemd/system/systemd-networkd.service": NETWORKD,
    "/usr/lib/systemd/system/systemd-networkd.socket": SOCKET,
    "/usr/lib/systemd/system/systemd-networkd-wait-online.service": WAIT,
    "/usr/lib/systemd/system/getty@.service": GETTY,
    "/usr/lib/systemd/system/static.service": "[Service]\nExecStart=/bin/true\n",
}


def guest(files: Mapping[str, str | Link]) -> MemoryGuest:
    entries: dict[str, Entry] = {path: File(x.encode()) if isinstance(x, str) else x for path, x in files.items()}
    return MemoryGuest({"/lib": Link("usr/lib"), **entries})


def links(draft: Draft) -> dict[str, str]:
    found = {path: draft.load(path) for path in draft.walk("/etc/systemd/system")}
    return {path: entry.target for path, entry in found.items() if isinstance(entry, Link)}


def test_an_enabled_service_has_the_links_of_its_install_section() -> None:
    draft = Draft(guest(UNITS | {"/etc/systemd/system/ssh.service": Link("/dev/null")}))
    assert not systemd.enabled(draft, "ssh.service")
    assert systemd.enable(draft, "ssh.service", why="it is the only way in")
    assert links(draft) == {
        "/etc/systemd/system/multi-user.target.wants/ssh.service": "/usr/lib/systemd/system/ssh.service",
        "/etc/systemd/system/sshd.service": "/usr/lib/systemd/system/ssh.service",
    }
    assert systemd.enabled(draft, "ssh.service")
    assert systemd.enabled(draft, "sshd.service")
    assert systemd.unit_name(draft, "sshd.service") == "ssh.service"


def test_enabling_twice_changes_nothing_even_where_links_lead_through_lib() -> None:
    draft = Draft(
        guest(
            UNITS
            | {
                "/etc/systemd/system/multi-user.target.wants/ssh.service": Link("/lib/systemd/system/ssh.service"),
                "/etc/systemd/system/sshd.service": Link("/lib/systemd/system/ssh.service"),
            }
        )
    )
    assert systemd.enable(draft, "sshd.service", why="it is the only way in")
    assert draft.changes.effects == ()


def test_a_unit_that_is_not_there_is_not_enabled() -> None:
    draft = Draft(guest(UNITS))
    assert not systemd.enable(draft, "cloud-init.service", why="nobody asks")
    assert not systemd.enabled(draft, "cloud-init.service")
    assert draft.changes.effects == ()


def test_disabling_removes_links_and_keeps_files_and_masks() -> None:
    own = "[Service]\nExecStart=/opt/fw\n[Install]\nWantedBy=multi-user.target\n"
    draft = Draft(
        guest(
            {
                "/etc/systemd/system/fw.service": own,
                "/etc/systemd/system/multi-user.target.wants/fw.service": Link("../fw.service"),
                "/etc/systemd/system/firewalld.service": Link("/dev/null"),
            }
        )
    )
    systemd.disable(draft, "fw.service", why="security groups do it")
    systemd.disable(draft, "firewalld.service", why="security groups do it")
    assert links(draft) == {"/etc/systemd/system/firewalld.service": "/dev/null"}
    assert draft.read("/etc/systemd/system/fw.service") == own


def test_what_the_vendors_folder_starts_needs_a_mask() -> None:
    draft = Draft(
        guest(UNITS | {"/usr/lib/systemd/system/multi-user.target.wants/static.service": Link("../static.service")})
    )
    systemd.disable(draft, "static.service", why="it hangs")
    assert systemd.enabled(draft, "static.service")
    systemd.mask(draft, "static.service", why="it hangs")
    assert not systemd.enabled(draft, "static.service")
    assert links(draft) == {"/etc/systemd/system/static.service": "/dev/null"}
    systemd.unmask(draft, "static.service", why="it is mended")
    assert systemd.enabled(draft, "static.service")


def test_a_service_with_only_an_init_script_loses_its_start_links() -> None:
    script = Link("../init.d/vmware-tools")
    draft = Draft(
        guest(
            {
                "/etc/init.d/vmware-tools": "#!/bin/sh\n",
                "/etc/rc2.d/S19vmware-tools": script,
                "/etc/rc6.d/K08vmware-tools": script,
            }
        )
    )
    systemd.disable(draft, "vmware-tools.service", why="its host is gone")
    assert draft.names("/etc/rc2.d") == ()
    assert draft.names("/etc/rc6.d") == ("K08vmware-tools",)


def test_install_sections_are_read_as_systemd_reads_them() -> None:
    text = "[Unit]\nWantedBy=no.target\n[Install]\n# WantedBy=no.target\nWantedBy=a.target \\\n b.target\nRequiredBy = c.target\n"
    drop_in = "[Install]\nWantedBy=\nWantedBy=d.target\nAlias=x.service\n"
    assert install_section(text) == Install(("a.target.wants", "b.target.wants", "c.target.requires"))
    assert install_section(text, drop_in) == Install(("d.target.wants", "c.target.requires"), ("x.service",))


def test_a_drop_in_of_the_operator_decides_what_wants_the_unit() -> None:
    draft = Draft(
        guest(UNITS | {"/etc/systemd/system/ssh.service.d/a.conf": "[Install]\nWantedBy=\nWantedBy=rescue.target\n"})
    )
    systemd.enable(draft, "ssh.service", why="it is the only way in")
    assert "/etc/systemd/system/rescue.target.wants/ssh.service" in links(draft)
    assert "/etc/systemd/system/multi-user.target.wants/ssh.service" not in links(draft)


@pytest.mark.parametrize(
    "unit", ["ssh.service", "systemd-networkd.service", "getty@tty1.service", "getty@.service", "static.service"]
)
@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_links_are_those_that_systemctl_makes(tmp_path: Path, verb: str, unit: str) -> None:
    for path, text in UNITS.items():
        real = tmp_path / path[1:]
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(text)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    verbs: dict[str, Callable[[Draft], object]] = {
        "enable": lambda draft: systemd.enable(draft, unit, why="a test"),
        "disable": lambda draft: systemd.disable(draft, unit, why="a test"),
    }
    draft = Draft(guest(UNITS))
    for step in dict.fromkeys(("enable", verb)):
        verbs[step](draft)
        subprocess.run(
            ["systemctl", f"--root={tmp_path}", "--quiet", step, unit], check=True, stderr=subprocess.DEVNULL
        )
    made = {
        f"/{path.relative_to(tmp_path)}": str(path.readlink())
        for path in (tmp_path / "etc").rglob("*")
        if path.is_symlink()
    }
    assert links(draft) == made

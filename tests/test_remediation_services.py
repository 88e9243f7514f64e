"""Services are switched on as each init system does it."""

import pytest

from migrate.draft import Draft
from migrate.guest import Entry, File, Link
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations import services
from remediations.cloud_init import enable_cloud_init
from remediations.services import Init, Levels, enable, init, levels, starts
from remediations.ssh import HOST_KEYS_JOB, enable_sshd, make_host_keys_at_first_boot
from tests.remediation_guests import applied, codes, done, outcome


def guest(*files: str, links: dict[str, str] | None = None, texts: dict[str, str] | None = None) -> MemoryGuest:
    entries: dict[str, Entry] = {path: File(b"") for path in files}
    entries |= {path: Link(target) for path, target in (links or {}).items()}
    return MemoryGuest(entries | {path: File(text.encode()) for path, text in (texts or {}).items()})


def enabled(to: MemoryGuest, name: str) -> dict[str, str | None]:
    draft = Draft(to)
    with draft.step("x"):
        enable(draft, name, why="x")
        assert starts(draft, name)
        before = draft.changes
        enable(draft, name, why="x")
        assert draft.changes == before
    return outcome(draft.changes)


@pytest.mark.parametrize(
    ("files", "links", "found"),
    [
        (("/usr/lib/systemd/systemd",), {}, Init.SYSTEMD),
        (("/lib/systemd/systemd", "/sbin/initctl"), {"/sbin/init": "upstart"}, Init.UPSTART),
        (("/lib/systemd/systemd", "/sbin/initctl"), {"/sbin/init": "/lib/systemd/systemd"}, Init.SYSTEMD),
        (("/lib/systemd/systemd", "/sbin/initctl", "/sbin/init"), {}, Init.UPSTART),
        (("/lib/systemd/systemd", "/etc/inittab", "/sbin/init"), {}, Init.SYSTEM_V),
        (("/sbin/openrc", "/etc/inittab"), {"/sbin/init": "/bin/busybox"}, Init.OPENRC),
        ((), {}, Init.SYSTEMD),
    ],
)
def test_what_starts_the_guest_is_told_by_sbin_init_before_what_else_lies_there(
    files: tuple[str, ...], links: dict[str, str], found: Init
) -> None:
    assert init(Draft(guest(*files, links=links))) is found


def test_openrc_has_a_link_in_the_runlevel() -> None:
    to = guest("/sbin/openrc", "/etc/init.d/sshd")
    assert enabled(to, "sshd") == {"/etc/runlevels/default/sshd": "-> /etc/init.d/sshd"}
    assert not enable(Draft(to), "gone", why="x")


def test_red_hats_scripts_get_the_links_that_their_head_asks_for_and_lose_those_that_stop_them() -> None:
    to = guest(
        "/etc/rc.d/rc6.d/K25sshd",
        *("/etc/inittab", "/etc/rc.d/rc3.d/S10network", "/etc/rc.d/rc2.d/S55sshd"),
        links={"/etc/rc.d/rc3.d/K25sshd": "../init.d/sshd", "/etc/init.d": "rc.d/init.d"},
        texts={"/etc/rc.d/init.d/sshd": "#!/bin/bash\n# chkconfig: 2345 55 25\n"},
    )
    assert enabled(to, "sshd") == {
        "/etc/rc.d/rc3.d/K25sshd": None,
        **{f"/etc/rc.d/rc{level}.d/S55sshd": "-> ../init.d/sshd" for level in (3, 4, 5)},
    }


@pytest.mark.parametrize(
    ("folder", "target"), [("/etc", "../init.d/ssh"), ("/etc/init.d", "../ssh")], ids=["debian", "suse"]
)
def test_other_scripts_are_linked_where_their_distribution_has_its_links(folder: str, target: str) -> None:
    to = guest(
        "/etc/inittab", f"{folder}/rc3.d/S01x", texts={"/etc/init.d/ssh": "### BEGIN INIT INFO\n# Default-Start: 3 5\n"}
    )
    assert enabled(to, "ssh") == {f"{folder}/rc{level}.d/S99ssh": f"-> {target}" for level in (3, 5)}


def test_the_head_of_a_script_says_its_levels() -> None:
    assert levels("# chkconfig: - 90 10\n") == Levels("2345", 90)
    assert levels("# Default-Start:     2 3 4 5 \n") == Levels("2345", 99)
    assert levels("") == Levels("2345", 99)


def test_an_upstart_job_that_waits_for_a_hand_does_not_any_more() -> None:
    to = guest("/sbin/initctl", "/etc/init/ssh.conf", texts={"/etc/init/ssh.override": "# by hand\nmanual\n"})
    assert not starts(Draft(to), "ssh")
    assert enabled(to, "ssh") == {"/etc/init/ssh.override": "# by hand\n"}


def test_an_ssh_server_that_nothing_starts_is_started(run: Run) -> None:
    to = guest("/sbin/openrc", "/usr/sbin/sshd", "/etc/init.d/sshd")
    applied(run, to, enable_sshd)
    assert to.load("/etc/runlevels/default/sshd") == Link("/etc/init.d/sshd")
    on = guest("/sbin/initctl", "/usr/sbin/sshd", "/etc/init/ssh.conf")
    assert done(on, enable_sshd).effects == ()


def test_host_keys_go_where_the_servers_own_script_makes_new_ones() -> None:
    makes = {"/etc/init.d/sshd": "#!/sbin/openrc-run\nstart_pre() {\n\tssh-keygen -A\n}\n"}
    to = guest("/sbin/openrc", "/etc/ssh/ssh_host_rsa_key", texts=makes)
    assert outcome(done(to, make_host_keys_at_first_boot)) == {"/etc/ssh/ssh_host_rsa_key": None}


def test_upstart_makes_host_keys_before_the_server_starts() -> None:
    to = guest("/sbin/initctl", "/etc/init/ssh.conf", "/etc/ssh/ssh_host_rsa_key")
    changes = done(to, make_host_keys_at_first_boot)
    assert outcome(changes) == {
        f"{services.JOBS}/magalu-migrate-host-keys.conf": HOST_KEYS_JOB,
        "/etc/ssh/ssh_host_rsa_key": None,
    }
    assert codes(changes) == []


NEW = """
os: {{id: {id}}}
packages: {{openssh: {{files: {files}}}, cloud-init: {{version: 25.1}}}}
files: {{/etc/hostname: x{init}}}
"""


def test_alpine_and_arch_enable_nothing_by_themselves() -> None:
    alpine = from_yaml(NEW.format(id="alpine", files="[/etc/init.d/sshd]", init=", /sbin/openrc: ''"))
    assert sorted(outcome(done(alpine, enable_cloud_init))) == [
        *("/etc/runlevels/boot/cloud-init-ds-identify", "/etc/runlevels/boot/cloud-init-local"),
        *("/etc/runlevels/default/cloud-config", "/etc/runlevels/default/cloud-final"),
        *("/etc/runlevels/default/cloud-init", "/etc/runlevels/default/sshd"),
    ]
    arch = from_yaml(NEW.format(id="arch", files="[]", init=", /usr/lib/systemd/systemd: ''"))
    above = "/etc/systemd/system"
    assert sorted(outcome(done(arch, enable_cloud_init))) == [
        *(f"{above}/cloud-init.target.wants/{name}.service" for name in ("cloud-config", "cloud-final")),
        *(f"{above}/cloud-init.target.wants/cloud-init-{name}.service" for name in ("local", "main", "network")),
        f"{above}/multi-user.target.wants/sshd.service",
    ]

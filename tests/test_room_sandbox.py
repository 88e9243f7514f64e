"""A hostile package is installed in the overlay room, on a real Debian, and gets nowhere."""

import os
import socket
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.machines import built
from migrate.errors import GuestError
from migrate.guest import File, Kind, Link, Package, PackageChange, Rebuild
from migrate.guests import programs
from migrate.guests.cell import ROOM
from migrate.guests.room import PACKAGES, RoomGuest
from migrate.guests.room_opening import open_room
from migrate.guests.sandbox import FIRST_USER
from migrate.initramfs import modules_inside, names_inside
from migrate.run import Run
from tests.archive import build_deb
from tests.guest_disks import served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def room() -> Iterator[RoomGuest]:
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        with served(run, built("debian12-vmware", format="qcow2"), "qcow2") as uri, open_room(run, uri, None) as guest:
            yield guest


def install(room: RoomGuest, folder: Path, name: str, postinst: str) -> None:
    """Install a package whose script is run by the guest's dpkg, as `change_packages` does it."""
    script = "#!/bin/bash\n" + textwrap.dedent(postinst)
    deb = build_deb(folder, name, scripts={"postinst": script})
    room.cell.tool(["mkdir", "-p", f"{ROOM}/packages"])
    room.agent.at(f"{ROOM}/packages").store(f"/{deb.name}", File(deb.read_bytes()))
    change = PackageChange(install=(Package(name, "1.0", "all"),))
    programs.change_packages(room, change, [f"{PACKAGES}/{deb.name}"])


def text(room: RoomGuest, path: str) -> str:
    entry = room.load(path)
    assert isinstance(entry, File)
    return entry.text


def test_a_hostile_script_reaches_no_file_no_socket_and_no_process_of_the_host(room: RoomGuest, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(f"{room._run.work}/host.sock")
        unix.listen()
        abstract.bind("\0magalu-migrate-test")
        abstract.listen()
        install(
            room,
            tmp_path,
            "hostile",
            f"""
            try() {{ "$@" >/dev/null 2>&1 && echo "REACHED: $*" >> /var/tmp/reached; }}
            try cat {secret}
            try cat /proc/1/root{secret}
            try ls /room
            try ls /proc/1/root/room
            try ls /proc/{os.getpid()}
            try cat /etc/shadow.of.the.host
            try bash -c 'exec 3<>/dev/tcp/127.0.0.1/{tcp.getsockname()[1]}'
            try bash -c 'exec 3<>/dev/tcp/169.254.169.254/80'
            try ls {room._run.work}/host.sock
            try grep -q magalu-migrate-test /proc/net/unix
            try bash -c 'echo core > /proc/sys/kernel/core_pattern'
            try bash -c 'echo b > /proc/sysrq-trigger'
            try mknod /var/tmp/disk b 254 0
            try mount -t tmpfs none /mnt
            try unshare --user true
            try unshare --mount true
            try kill -0 {os.getpid()}
            try dmesg
            exit 0
            """,
        )
    assert room.kind("/var/tmp/reached") is Kind.MISSING, text(room, "/var/tmp/reached")
    assert "hostile" in room.packages


def test_it_is_nobody_to_the_host_and_root_to_the_guest(room: RoomGuest, tmp_path: Path) -> None:
    install(
        room,
        tmp_path,
        "who",
        "id -u > /var/tmp/who; cat /proc/self/status > /var/tmp/status; head -1 /proc/self/uid_map >> /var/tmp/who",
    )
    assert text(room, "/var/tmp/who").split() == ["0", "0", str(FIRST_USER), str((1 << 31) - 1)]
    status = dict(line.split(":", 1) for line in text(room, "/var/tmp/status").splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    assert not int(status["CapEff"], 16) & 1 << 21, "CAP_SYS_ADMIN"


def test_what_it_leaves_running_ends_with_it(room: RoomGuest, tmp_path: Path) -> None:
    install(
        room,
        tmp_path,
        "daemon",
        "setsid sleep 98765 & setsid nohup bash -c 'sleep 98765' >/dev/null 2>&1 </dev/null & exit 0",
    )
    time.sleep(0.3)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"98765" in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_fork_bomb_ends_at_a_limit(room: RoomGuest, tmp_path: Path) -> None:
    before = len(list(Path("/proc").glob("[0-9]*")))
    bomb = "for (1..9000) { my $p = fork; last unless defined $p; unless ($p) { sleep 50; exit } $n++ }"
    install(room, tmp_path, "bomb", f"perl -e '{bomb} print $n' > /var/tmp/bomb")
    assert 100 < int(text(room, "/var/tmp/bomb")) <= 2000
    assert len(list(Path("/proc").glob("[0-9]*"))) < before + 100


def test_it_cannot_fill_more_than_the_room(room: RoomGuest) -> None:
    with pytest.raises(GuestError, match=r"No space left|File too large"):
        room.execute(["dd", "if=/dev/zero", "of=/var/tmp/fill", "bs=64M", "count=80"], env=programs.ENVIRONMENT)
    entry = f"{ROOM}/merged/var/tmp/fill"
    assert int(room.cell.tool(["stat", "--format=%s", entry]).text) <= 4 << 30
    room.cell.tool(["rm", entry])


def test_its_links_lead_nowhere_on_the_host(room: RoomGuest, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    install(
        room,
        tmp_path,
        "links",
        f"mkdir /srv/trap; ln -s {outside} /srv/trap/absolute; ln -s /proc/1/root /srv/trap/proc; ln -s ../../../../../..{outside} /srv/trap/up",
    )
    for name in ("absolute", "proc", "up"):
        assert isinstance(room.load(f"/srv/trap/{name}"), Link)
        assert room.names(f"/srv/trap/{name}") == ()
        with pytest.raises(GuestError):
            room.store(f"/srv/trap/{name}/file", File(b"x"))
    assert list(outside.iterdir()) == []


def test_services_are_not_started_and_the_policy_is_as_before(room: RoomGuest, tmp_path: Path) -> None:
    room.store("/usr/sbin/policy-rc.d", File(b"#!/bin/sh\nexit 0\n", 0o700, 3, 4))
    install(room, tmp_path, "service", "/usr/sbin/policy-rc.d; echo $? > /var/tmp/policy")
    assert text(room, "/var/tmp/policy").strip() == "101"
    assert room.load("/usr/sbin/policy-rc.d") == File(b"#!/bin/sh\nexit 0\n", 0o700, 3, 4)
    room.store("/usr/sbin/policy-rc.d", None)


def test_the_initramfs_is_built_once_and_not_by_each_package(room: RoomGuest, tmp_path: Path) -> None:
    image = next(f"/boot/{name}" for name in room.names("/boot") if name.startswith("initrd"))
    before = room.load(image)
    conf = room.load("/etc/initramfs-tools/update-initramfs.conf")
    install(room, tmp_path, "trigger", "update-initramfs -u")
    assert room.load(image) == before
    assert room.load("/etc/initramfs-tools/update-initramfs.conf") == conf
    listed = room.load("/etc/initramfs-tools/modules")
    assert isinstance(listed, File)
    room.store("/etc/initramfs-tools/modules", File(listed.content + b"virtio_net\n", listed.mode))
    with pytest.raises(GuestError, match="was built anew and still has no virtio_blk, virtio_pci"):
        room.rebuild(Rebuild.INITRAMFS)
    room.store(
        "/etc/initramfs-tools/modules", File(listed.content + b"virtio_pci\nvirtio_blk\nvirtio_net\n", listed.mode)
    )
    room.rebuild(Rebuild.INITRAMFS)
    after = room.load(image)
    assert isinstance(after, File)
    assert {"virtio_blk", "virtio_net"} <= modules_inside(after.content)
    # Its hook cannot see the root's device from in here, and is told the type.
    assert any(name.endswith("sbin/fsck.ext4") for name in names_inside(after.content))


def test_a_boot_menu_that_is_made_anew_holds_nothing_of_other_disks(room: RoomGuest) -> None:
    prober = File(b"#!/bin/sh\necho probed >/var/tmp/probed\n", 0o755)
    room.store("/etc/grub.d/30_os-prober", prober)
    room.rebuild(Rebuild.BOOTLOADER)
    assert room.kind("/var/tmp/probed") is Kind.MISSING
    assert room.load("/etc/grub.d/30_os-prober") == prober
    assert "vmlinuz-6.1" in text(room, "/boot/grub/grub.cfg")


def test_a_script_that_fails_says_so(room: RoomGuest, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"apt-get ended with 100.*failing"):
        install(room, tmp_path, "failing", "echo no such luck; exit 3")
    assert any("failing" in name for name in room._system.installed.unfinished)
    room.execute(["dpkg", "--purge", "--force-all", "failing"], env=programs.ENVIRONMENT)


def test_the_host_keys_that_a_package_makes_are_not_kept(room: RoomGuest, tmp_path: Path) -> None:
    install(room, tmp_path, "keys", "mkdir -p /etc/ssh; ssh-keygen -A 2>/dev/null || touch /etc/ssh/ssh_host_rsa_key")
    assert [name for name in room.names("/etc/ssh") if name.startswith("ssh_host")] == []

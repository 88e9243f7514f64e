"""The machine that the image is booted in: what a KVM cloud with OpenStack would give it, in QEMU.

virtio disk, card and random source, VGA and a serial console, SMBIOS as Nova writes it, SeaBIOS or OVMF with an empty variable store: boot entries
in NVRAM never travel with an image. The disk is an NBD export, read-only: this QEMU, which a hostile guest runs in, opens no image file. Writes go to
an overlay that is thrown away.
"""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from migrate.errors import MigrateError, ToolFailed
from migrate.proof import screen
from migrate.proof.console import Console
from migrate.proof.kvm import DEVICE
from migrate.proof.metadata import Instance
from migrate.proof.monitor import Monitor
from migrate.proof.namespace import ENVIRONMENT, Namespace
from migrate.proof.wire import PACKET_BYTES, Wire
from migrate.run import Limits, Run
from migrate.source import Firmware

SSH_PORT = 2222
"""Where the guest's port 22 is reached, on 127.0.0.1 of the namespace."""
GUEST_ADDRESS = "10.0.2.15"
"""The first address that QEMU's DHCP server gives. Source: qemu(1), -netdev user."""

# Debian and Ubuntu, Fedora and RHEL, openSUSE, Arch: code and its empty variable store. Secure Boot variants are left out:
# nothing says that Magalu Cloud has it on.
OVMF = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
)


@dataclass(frozen=True, slots=True)
class Hardware:
    """`disk` is the unix socket of an NBD export, which is only read; `disk_size` in bytes, as the guest sees it. Packets are dumped for who
    looks at the wire; the dump of a guest that stays on would grow without end."""

    disk: Path
    disk_size: int
    firmware: Firmware
    memory_mb: int
    vcpus: int
    kvm: bool
    dumps_packets: bool = True


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is on. `started` is the moment of power-on on the monotonic clock."""

    child: Popen[bytes]
    monitor: Monitor
    console: Console
    wire: Wire
    log: Path
    folder: Path
    started: float

    def screen(self) -> str | None:
        """Return the text on the VGA screen, None where there is none or it is in graphics mode."""
        file = self.folder / "screen"
        try:
            self.monitor.save_memory(screen.WINDOW_START, screen.WINDOW_BYTES, file)
        except ToolFailed:
            if self.monitor.closed:  # the machine has just ended, which its process tells
                return None
            raise
        return screen.text(file.read_bytes())


@contextmanager
def powered_on(
    run: Run, namespace: Namespace, instance: Instance, hardware: Hardware, folder: Path
) -> Iterator[Machine]:
    """Keep a machine running while the block lasts; the overlay, console and packet dump are files in `folder`."""
    overlay, serial, packets = folder / "overlay.qcow2", folder / "serial.log", folder / "packets.pcap"
    run.tool(
        ["qemu-img", "create", "-q", "-f", "qcow2", overlay, str(hardware.disk_size)],
        limits=Limits(address_space=1 << 30, cpu_seconds=30),
        timeout=60,
    )
    ours, theirs = socket.socketpair()
    argv = namespace.caged(
        _qemu(instance, hardware, overlay, serial, packets, _firmware(hardware.firmware, folder), theirs.fileno()),
        readable=[hardware.disk],
        writable=[folder],
        devices=[DEVICE] if hardware.kvm else [],
    )
    log = folder / "qemu.log"
    with (
        ours,
        theirs,
        run.daemon(argv, ready=lambda: True, env=ENVIRONMENT, log=log, pass_fds=(theirs.fileno(),)) as child,
    ):
        theirs.close()
        monitor = Monitor(ours)
        try:
            monitor.power_on()
        except ToolFailed as failed:
            status = child.poll() or "no start"
            raise ToolFailed("qemu-system-x86_64", status, log.read_text("utf-8", "replace")) from failed
        yield Machine(child, monitor, Console(serial), Wire(packets, instance.mac), log, folder, time.monotonic())


def _firmware(firmware: Firmware, folder: Path) -> tuple[Path, Path] | None:
    """Return OVMF's code and a fresh copy of its empty variable store; None where SeaBIOS is wanted."""
    if firmware is Firmware.BIOS:
        return None
    for code, variables in OVMF:
        if Path(code).is_file() and Path(variables).is_file():
            copy = folder / "nvram.fd"
            shutil.copyfile(variables, copy)
            return Path(code), copy
    raise MigrateError(
        "the image is booted by UEFI, and no OVMF firmware is installed here.", hint="apt-get install ovmf"
    )


def _qemu(
    instance: Instance,
    hardware: Hardware,
    overlay: Path,
    serial: Path,
    packets: Path,
    firmware: tuple[Path, Path] | None,
    monitor: int,
) -> list[str | Path]:
    # graphics=off lets SeaBIOS, and through it GRUB, speak on the serial port as well ("sercon").
    machine = "pc,graphics=off" if firmware is None else "q35,pflash0=code,pflash1=nvram"
    emulation = "tcg,thread=multi,tb-size=512"
    argv: list[str | Path] = [
        *("qemu-system-x86_64", "-name", "proof", "-nodefaults", "-no-user-config", "-display", "none", "-S"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-accel", "kvm" if hardware.kvm else emulation, "-cpu", "max"),
        *("-smp", str(hardware.vcpus), "-m", str(hardware.memory_mb), "-rtc", "base=utc"),
        *("-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"file,id=serial,path={_escaped(serial)}", "-serial", "chardev:serial"),
        *("-uuid", instance.id, "-smbios", _smbios(instance)),
        # By BIOS a card without PCI keeps Linux in text mode, which can be read from the card's memory: no framebuffer driver binds to it.
        *("-device", "isa-vga" if firmware is None else "VGA"),
        # no-flush: the overlay is thrown away, so nobody waits for it to reach the disk.
        *_file_node("overlay-file", overlay, read_only=False),
        *_nbd_node("disk", hardware.disk),
        *_overlay_node("root", file="overlay-file", backing="disk"),
        *("-device", "virtio-blk-pci,drive=root,bootindex=0"),
        # romfile=: no iPXE, no network boot.
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{SSH_PORT}-{GUEST_ADDRESS}:22"),
        *("-device", f"virtio-net-pci,netdev=net,mac={instance.mac},romfile="),
        *("-object", "rng-builtin,id=random", "-device", "virtio-rng-pci,rng=random"),
    ]
    if hardware.dumps_packets:
        argv += ["-object", f"filter-dump,id=dump,netdev=net,file={_escaped(packets)},maxlen={PACKET_BYTES}"]
    if firmware is not None:
        code, variables = firmware
        argv += [*_file_node("code", code, read_only=True), *_file_node("nvram", variables, read_only=False)]
    return [*argv, "-machine", machine]


def _smbios(instance: Instance) -> str:
    """What makes ds-identify(8) see OpenStack. Source: Nova, libvirt driver, _get_guest_config_sysinfo."""
    return (
        "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=29.0.0,"
        f"serial={instance.id},family=Virtual Machine"
    )


def _file_node(name: str, path: Path, *, read_only: bool) -> list[str]:
    options = {
        "driver": "file",
        "node-name": name,
        "filename": str(path),
        "read-only": read_only,
        "cache": {"no-flush": True},
        "discard": "unmap",
    }
    return ["-blockdev", json.dumps(options)]


def _nbd_node(name: str, path: Path) -> list[str]:
    options = {
        "driver": "nbd",
        "node-name": name,
        "server": {"type": "unix", "path": str(path)},
        "read-only": True,
    }
    return ["-blockdev", json.dumps(options)]


def _overlay_node(name: str, *, file: str, backing: str) -> list[str]:
    options = {
        "driver": "qcow2",
        "node-name": name,
        "file": file,
        "backing": backing,
        "cache": {"no-flush": True},
        "discard": "unmap",
    }
    return ["-blockdev", json.dumps(options)]


def _escaped(path: Path) -> str:
    """Return a path as a value of a QEMU option. Source: qemu(1), "a comma is given as two"."""
    return str(path).replace(",", ",,")

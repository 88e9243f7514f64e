"""Whether a guest really runs under KVM on this machine, and faster than by emulation.

/dev/kvm that exists, opens and creates VMs proves nothing. Seen on cloud machines without nested virtualisation: QEMU aborts ("failed
to set MSR 0x10a"), QEMU hangs, libguestfs dies at launch without falling back to emulation; and on one of them a guest runs,
a hundred times slower than emulated. So a guest is run, and given some work.
"""

import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import ToolFailed
from migrate.proof.kvm_memory import remember, remembered
from migrate.run import Run

DEVICE = Path("/dev/kvm")
ANSWER_S = 4.0
"""Emulation needs 0.4 s for the work below and a processor that really runs less; the slow KVM described above 30 s."""

TURNS, EXITS = 100_000_000, 10_000


def _boot_sector() -> bytes:
    """Return real mode code that counts down, leaves the guest `EXITS` times, and ends QEMU by its isa-debug-exit device."""
    code = (
        (b"\x66\xb9" + struct.pack("<I", TURNS))  #    mov ecx, TURNS
        + b"\x66\x49"  #                          a:  dec ecx
        + b"\x75\xfc"  #                              jnz a
        + (b"\x66\xb9" + struct.pack("<I", EXITS))  #  mov ecx, EXITS
        + b"\xe6\x80"  #                          b:  out 0x80, al   the port of POST codes: nothing happens, at the price of an exit
        + b"\x66\x49"  #                              dec ecx
        + b"\x75\xfa"  #                              jnz b
        + b"\xb0\x10"  #                              mov al, 0x10
        + b"\xba\xf4\x00"  #                          mov dx, 0xf4
        + b"\xee"  #                                  out dx, al
        + b"\xf4\xeb\xfd"  #                      c:  hlt; jmp c
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


BOOT_SECTOR = _boot_sector()
STATUS = (0x10 << 1) | 1
"""isa-debug-exit ends QEMU with this for 0x10. Source: QEMU, hw/misc/debugexit.c."""


@dataclass(frozen=True, slots=True)
class KvmState:
    """`why` says in a few words what was found, also where KVM is usable. `hangs` where QEMU had to be ended."""

    usable: bool
    why: str
    hangs: bool = False


def usable(run: Run, *, timeout: float = ANSWER_S, anew: bool = False) -> KvmState:
    """Return whether a guest processor executes under KVM here. Takes under 0.5 s, or `timeout` seconds where KVM hangs.

    That it hangs is remembered for an hour; `anew` asks all the same.
    """
    if not DEVICE.exists():
        return KvmState(False, f"there is no {DEVICE}")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return KvmState(False, f"{DEVICE} may not be opened by this user")
    if not anew and (why := remembered(DEVICE)) is not None:
        return KvmState(False, f"{why} (found before; `magalu-migrate doctor` looks again)")
    state = executes(run, "kvm", timeout=timeout)
    remember(DEVICE, state.why if state.hangs else None)
    return state


def executes(run: Run, accelerator: str, *, timeout: float = ANSWER_S) -> KvmState:
    """Return whether a guest processor executes under this accelerator of QEMU ("kvm", "tcg")."""
    with tempfile.NamedTemporaryFile(dir=run.work, prefix="probe-", suffix=".img") as disk:
        disk.write(BOOT_SECTOR)
        disk.flush()
        argv = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            # The processor model that libguestfs and our own boots ask for: others fail differently.
            *("-accel", accelerator, "-cpu", "max", "-m", "32"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
            *("-drive", f"file.driver=file,file.filename={disk.name.replace(',', ',,')},format=raw,if=ide,snapshot=on"),
        ]
        try:
            run.tool(argv, timeout=timeout, ok=(STATUS,))
        except ToolFailed as failed:
            said = failed.stderr.strip().splitlines()
            reason = said[-1].strip()[:200] if said else f"QEMU ended with {failed.status}"
            if isinstance(failed.status, str):  # it was ended by us
                reason = f"a guest hangs or is slower than emulated: {failed.status}"
                return KvmState(False, reason, hangs=True)
            return KvmState(False, reason)
    return KvmState(True, "a guest runs")

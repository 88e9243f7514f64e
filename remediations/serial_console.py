"""Messages and a login on the serial port: all that a cloud shows of a boot that fails."""

import re

from migrate.draft import Draft
from migrate.remediation import Settings, remediation
from remediations import kernel_arguments, systemd
from remediations.kernel_arguments import Arguments

SERIAL = "console=ttyS0,115200n8"
SCREEN = "console=tty0"
PORT = "ttyS0"

INITTAB = "/etc/inittab"
UPSTART = "/etc/init/ttyS0.conf"
UPSTART_JOB = """\
# Written by magalu-migrate: a login on the serial port, which is all that a cloud shows.
start on stopped rc RUNLEVEL=[2345]
stop on runlevel [!2345]
respawn
exec /sbin/getty -L 115200 ttyS0 vt102
"""


@remediation(
    "serial-console",
    "Show the kernel's and the system's messages on the serial console",
    sources=(
        "kernel.org, admin-guide/serial-console: the last console= is /dev/console; instances' init-logs show it",
        "Linux, Documentation/admin-guide/serial-console.rst: the last console= is /dev/console",
        "systemd-getty-generator(8): a serial console gets a login; RHEL 6, /etc/init/serial.conf: so it does there",
        "inittab(5); busybox, examples/inittab; init(5) of upstart; Ubuntu, SerialConsoleHowto",
    ),
)
def serial_console(draft: Draft, settings: Settings) -> None:
    """The cloud keeps what a machine writes to its serial port; it is all that one sees of a boot that fails.

    Every kernel entry, and the settings that later ones are made from, say console=ttyS0,115200n8, with console=tty0 before it where no console
    was named. Consoles that are named already stay, and the serial one is the last, which services write to. systemd starts a login there by
    itself; an inittab and upstart are told to.
    """
    why = "sends no message to the serial port, which is all that a cloud shows"
    kernel_arguments.rewrite(draft, serial_last, why="sends what services say to a screen that nobody sees")
    kernel_arguments.add(draft, _lacking_consoles, why=why)
    if not systemd.runs(draft):
        _login(draft, "has no login on the serial port")


def serial_last(arguments: Arguments) -> Arguments:
    """Return the arguments with the serial port as the last console, where it is one."""
    consoles = [word for word in arguments if word.startswith("console=")]
    serial = [word for word in consoles if _is_serial(word)]
    if not serial or _is_serial(consoles[-1]):
        return arguments
    rest = [word for word in arguments if word not in serial]
    last = max(number for number, word in enumerate(rest) if word.startswith("console="))
    return (*rest[: last + 1], *serial, *rest[last + 1 :])


def with_serial_login(text: str) -> str:
    """Return an inittab that starts a login on the serial port; busybox's has its terminal where others have an id, and no runlevels."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    if any(PORT in line and re.search(r":(respawn|askfirst):", line) for line in lines):
        return text
    ends = "" if not text or text.endswith("\n") else "\n"
    if any(re.match(r"[^:]*::(sysinit|respawn|wait):", line) for line in lines):
        return f"{text}{ends}{PORT}::respawn:/sbin/getty -L 115200 {PORT} vt100\n"
    program = "/sbin/agetty" if any("agetty" in line or "mingetty" in line for line in lines) else "/sbin/getty"
    used = {line.partition(":")[0] for line in lines}
    name = next(name for name in ("S0", "T0", "s0", "S9") if name not in used)
    return f"{text}{ends}{name}:2345:respawn:{program} -L 115200 {PORT} vt100\n"


def _login(draft: Draft, why: str) -> None:
    if draft.exists("/etc/init/tty1.conf") and not draft.exists("/etc/init/serial.conf"):
        if not draft.exists(UPSTART):
            draft.write(UPSTART, UPSTART_JOB, why=why)
    elif not draft.exists("/etc/init/serial.conf"):
        draft.edit(INITTAB, with_serial_login, why=why)


def _is_serial(word: str) -> bool:
    return word.removeprefix("console=").split(",")[0] == PORT


def _lacking_consoles(arguments: Arguments) -> Arguments:
    consoles = [word for word in arguments if word.startswith("console=")]
    if any(map(_is_serial, consoles)):
        return ()
    return (SERIAL,) if consoles else (SCREEN, SERIAL)

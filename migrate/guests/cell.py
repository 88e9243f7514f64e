"""A cell: the namespaces in which foreign disks are read and foreign programs run, without any right over the host.

Its root is, for the host, a user that owns nothing (no file, no process, no sysctl); of the host's files it sees programs only; it has no network;
it shares no process, and everything in it ends with it. File systems are read there by FUSE programs, never by the host's kernel: a
broken ext4 can crash fuse2fs, and fuse2fs has nothing to give away.

Measured on the 2-core machine: a cell is there after 0.1 s.
"""

import json
import os
import pwd
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import ToolFailed
from migrate.guests import userns
from migrate.guests.sandbox import FIRST_USER, HOST_PROGRAMS, PLAIN_ENVIRONMENT, USERS
from migrate.run import NO_LIMITS, Limits, Output, Run

ROOM = "/room"
MOST_BYTES = 4 << 30
"""What the cell's writable memory holds at most, and never more than half of the host's; packages and a rebuilt initramfs took 130 MB."""

READING = Limits(address_space=4 << 30, cpu_seconds=3600)


class Unsuitable(Exception):
    """The overlay room is not for this host, or not for this guest; the text says why. No error: the appliance is taken then."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An open cell. `pid` is its first process as the host counts."""

    run: Run
    pid: int

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command that runs `argv` as the cell's root."""
        entered = ["--user", "--mount", "--pid", "--net", "--ipc", "--uts"]
        return ["nsenter", "--target", str(self.pid), *entered, "--", *map(str, argv)]

    def tool(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: bytes | None = None,
        limits: Limits = NO_LIMITS,
        timeout: float | None = 600,
        env: Mapping[str, str] | None = None,
        ok: Sequence[int] = (0,),
        on_wait: Callable[[], None] | None = None,
    ) -> Output:
        """Run a program in the cell to its end; as `Run.tool`."""
        environment = PLAIN_ENVIRONMENT | dict(env or {})
        try:
            return self.run.tool(
                self.inside(argv), stdin=stdin, limits=limits, timeout=timeout, env=environment, ok=ok, on_wait=on_wait
            )
        except ToolFailed as error:
            raise ToolFailed(str(argv[0]), error.status, error.stderr) from error

    @contextmanager
    def mounted(self, argv: Sequence[str | Path], at: str, *, pass_fds: Sequence[int] = ()) -> Iterator[None]:
        """Keep a FUSE program running in the foreground, whose mount point is the folder `at`, while the block lasts."""
        self.tool(["mkdir", "-p", at])

        def ready() -> bool:
            return f" {at} " in Path(f"/proc/{self.pid}/mountinfo").read_text()

        with self.run.daemon(self.inside(argv), ready=ready, pass_fds=pass_fds, env=PLAIN_ENVIRONMENT, limits=READING):
            yield

    @contextmanager
    def disk(self, uri: str, name: str, part: tuple[int, int] | None = None) -> Iterator[str]:
        """Show an NBD endpoint as a file in the cell while the block lasts, and yield its path. What is written to it is forgotten then.

        `part` is an offset and a size in bytes where only a part of it is to be shown.
        """
        folder = Path(
            tempfile.mkdtemp(prefix="cell-")
        )  # a socket's path is at most 107 bytes long, and a work folder's may be more
        path = folder / "nbd"
        # The cow filter keeps writes to itself: replaying a journal must not need a second copy of the disk.
        serve: list[str | Path] = ["nbdkit", "--foreground", "--unix", path, "--filter=cow"]
        serve += ["--filter=offset"] * bool(part) + ["nbd", f"uri={uri}"]
        serve += [f"offset={part[0]}", f"range={part[1]}"] if part else []
        try:
            with (
                socket.socket(socket.AF_UNIX) as connection,
                self.run.daemon(serve, ready=lambda: _connected(connection, path)),
            ):
                at = f"{ROOM}/{name}"
                # The cell sees no socket of the host: it is handed one that is connected.
                argv = ["nbdfuse", f"{at}/nbd", "--fd", str(connection.fileno())]
                with self.mounted(argv, at, pass_fds=(connection.fileno(),)):
                    connection.close()  # nbdfuse has it; nbdkit ends only when nobody has
                    yield f"{at}/nbd"
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                folder.rmdir()


def _connected(connection: socket.socket, path: Path) -> bool:
    """A server binds its socket before it listens, so that the file is there says nothing."""
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


@contextmanager
def open_cell(run: Run) -> Iterator[Cell]:
    """Open a cell; leaving ends everything in it. Raise Unsuitable where this host does not allow it."""
    users = _users()
    told, tell = os.pipe()
    try:
        os.set_blocking(told, False)
        words = [sys.executable, "-I", userns.__file__, *map(str, users), "--", *_bwrap(tell)]
        said = bytearray()

        def ready() -> bool:
            with suppress(BlockingIOError):
                said.extend(os.read(told, 4096))
            return said.rstrip().endswith(b"}")

        try:
            daemon = run.daemon([*words, "sleep", "infinity"], ready=ready, pass_fds=(tell,), env=PLAIN_ENVIRONMENT)
            with daemon:
                cell = Cell(run, int(json.loads(said)["child-pid"]))
                _wait_until_furnished(cell)
                yield cell
        except ToolFailed as error:
            if error.program == sys.executable:
                raise Unsuitable(f"this host does not allow its namespaces: {error}") from error
            raise
    finally:
        os.close(told)
        os.close(tell)


def _users() -> tuple[int, int, int]:
    """Return the first user, the first group and how many of both the cell may have. Raise Unsuitable where an ordinary user has none."""
    if os.geteuid() == 0:
        return FIRST_USER, FIRST_USER, USERS
    user = pwd.getpwuid(os.geteuid())
    ranges = [_range(Path(path), user) for path in ("/etc/subuid", "/etc/subgid")]
    if shutil.which("newuidmap") is None or None in ranges:
        raise Unsuitable(
            f"{user.pw_name} may not map the guest's users: that takes newuidmap (package uidmap) and a range in /etc/subuid and /etc/subgid"
        )
    (first_user, users), (first_group, groups) = (found for found in ranges if found)
    return first_user, first_group, min(users, groups)


def _range(path: Path, user: pwd.struct_passwd) -> tuple[int, int] | None:
    """Source: subuid(5)."""
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in (user.pw_name, str(user.pw_uid)):
            first, count = map(int, rest.split(":"))
            return first, count
    return None


def _bwrap(info: int) -> list[str]:
    most_bytes = min(MOST_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    words = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    words += ["--cap-add", "ALL"]  # over what the cell itself made, nothing else
    words += ["--info-fd", str(info), "--hostname", "room"]
    for path in HOST_PROGRAMS:
        if Path(path).is_symlink():
            words += ["--symlink", str(Path(path).readlink()), path]
        else:
            words += ["--ro-bind-try", path, path]
    words += [
        "--dev",
        "/dev",
        "--dev-bind",
        "/dev/fuse",
        "/dev/fuse",
        "--proc",
        "/proc",
        "--symlink",
        "/proc/self/mounts",
        "/etc/mtab",
    ]
    words += ["--perms", "1777", "--tmpfs", "/tmp", "--size", str(most_bytes), "--tmpfs", ROOM]  # noqa: S108  (its own)
    return [*words, "--chdir", "/", "--"]


def _wait_until_furnished(cell: Cell) -> None:
    """bwrap tells its child's number before that child has its files in place."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # Its own root has the folder of the room, which the host's has not.
        with suppress(OSError):
            if Path(f"/proc/{cell.pid}/root{ROOM}").is_dir() and not Path(f"/proc/{cell.pid}/root/oldroot").exists():
                return
        time.sleep(0.005)
    raise Unsuitable("its namespaces did not come up within 10 s")

"""Host programs that read what a guest wrote, shut away from the host: bubblewrap, a plain user's rights, no network."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from migrate.guests import userns

PLAIN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}
# What programs of the host need to start; everything else of /etc, /home, /root, /var stays out of sight.
HOST_PROGRAMS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/mtools.conf",
)
HOST_NETWORK = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/ca-certificates",
)

NOBODY = 65534
FIRST_USER = 1 << 31
USERS = (1 << 31) - 1
"""The upper half of all user numbers, which no host hands out (subuid ranges end below); one less, because -1 is no user."""


def sandboxed(
    argv: Sequence[str | Path],
    *,
    folder: tuple[Path, str],
    network: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
) -> list[str]:
    """Return the command that runs `argv` with the host's programs, and of the host's files only one folder, writable (where it is, where it is seen).

    For the host it is an ordinary user: root's own rights would reach sysctls (/proc/sys asks for no capability) and the abstract sockets of a
    shared network. The folder's content is given to it by `give`. Nothing that it starts outlives it. Source: bwrap(1).
    """
    words = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--cap-drop", "ALL", "--clearenv"]
    for name, value in (PLAIN_ENVIRONMENT | dict(env or {})).items():
        words += ["--setenv", name, value]
    if not network:
        words.append("--unshare-net")
    for path in HOST_PROGRAMS + (HOST_NETWORK if network else ()):
        words += _shown(path, network)
    words += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108  (its own)
    ours, inside = folder
    if os.geteuid() == 0:
        enter = [
            sys.executable,
            "-I",
            userns.__file__,
            str(FIRST_USER),
            str(FIRST_USER),
            str(USERS),
            "--show",
            str(ours),
            "--",
        ]
        words += ["--bind", userns.SHOWN, inside]
    else:
        enter = []
        words += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY), "--bind", str(ours), inside]
    return [*enter, *words, "--chdir", cwd, "--", *map(str, argv)]


def give(path: Path) -> None:
    """A file or folder of ours belongs to the user that `sandboxed` runs as."""
    if os.geteuid() == 0:
        os.chown(path, FIRST_USER, FIRST_USER)


def _shown(path: str, network: bool) -> list[str]:
    """A link of a merged /usr is made again; resolv.conf is often a link to somewhere that is not shown."""
    if Path(path).is_symlink() and not network:
        return ["--symlink", str(Path(path).readlink()), path]
    return ["--ro-bind-try", path, path]

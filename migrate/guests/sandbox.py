"""Host programs that read what a guest wrote, shut away from the host: bubblewrap, a plain user's rights, no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

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


def sandboxed(
    argv: Sequence[str | Path],
    *,
    read: Mapping[Path, str] | None = None,
    write: Mapping[Path, str] | None = None,
    network: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
) -> list[str]:
    """Return the command that runs `argv` with the host's programs, and of the host's files only those in `read` and `write` (host → inside).

    It is nobody there, in a user namespace of its own where the host allows one; nothing that it starts outlives it. Source: bwrap(1).
    """
    words = [
        "bwrap",
        "--unshare-user",
        "--uid",
        str(NOBODY),
        "--gid",
        str(NOBODY),
        "--die-with-parent",
        "--new-session",
    ]
    words += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--clearenv"]
    for name, value in (PLAIN_ENVIRONMENT | dict(env or {})).items():
        words += ["--setenv", name, value]
    if not network:
        words.append("--unshare-net")
    for path in HOST_PROGRAMS + (HOST_NETWORK if network else ()):
        words += _shown(path, network)
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  (its own)
    for host, inside in (read or {}).items():
        words += ["--ro-bind", str(host), inside]
    for host, inside in (write or {}).items():
        words += ["--bind", str(host), inside]
    return [*words, "--chdir", cwd, "--", *map(str, argv)]


def _shown(path: str, network: bool) -> list[str]:
    """A link of a merged /usr is made again; resolv.conf is often a link to somewhere that is not shown."""
    if Path(path).is_symlink() and not network:
        return ["--symlink", str(Path(path).readlink()), path]
    return ["--ro-bind-try", path, path]

"""A network of the guest's own, and a cage for the programs that touch it.

The guest is foreign code with a network card. QEMU's own `restrict=on` would keep it from the outside, but the metadata service could then
only be reached through a forked program per request, on a network that does not look like a cloud's. So the kernel isolates:
QEMU runs in a network namespace that holds a loopback with 127.0.0.1 and 169.254.169.254 and nothing else. What the guest
sends to 10.0.2.2 arrives at that loopback, where only our own two ports are open; there is no route to anywhere.

QEMU and ssh, which parse what the guest sends, moreover run under bubblewrap: no capability, no process and no file of
the host but /usr and what is named. Works as root and as an ordinary user who may make user namespaces.
"""

import select
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import MigrateError, ToolFailed
from migrate.proof import gate
from migrate.run import Run

# QEMU gets none of our environment: it may hold the user's API keys.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/passwd", "/etc/alternatives", "/etc/crypto-policies")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A living network namespace. `listener` is bound to the metadata address inside it."""

    pid: int
    listener: socket.socket
    control: socket.socket

    def dial(self, port: int) -> socket.socket | None:
        """Return a connection to 127.0.0.1:`port` inside, None where nobody listens. The caller closes it."""
        self.control.send(str(port).encode())
        _, descriptors, _, _ = socket.recv_fds(self.control, 16, 1)
        return socket.socket(fileno=descriptors[0]) if descriptors else None

    def caged(
        self,
        argv: Sequence[str | Path],
        *,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        devices: Sequence[Path] = (),
    ) -> list[str | Path]:
        """Return the words that run a program inside, with these paths at the same place as outside and no others."""
        words: list[str | Path] = [
            *("nsenter", f"--target={self.pid}", "--user", "--preserve-credentials", "--net", "--"),
            *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"),
            *("--cap-drop", "ALL", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", "/usr", "/usr"),  # noqa: S108
        ]
        for name in SYSTEM_FOLDERS:
            folder = Path(name)
            if folder.is_symlink():  # merged /usr
                words += ["--symlink", folder.readlink(), folder]
            elif folder.is_dir():
                words += ["--ro-bind", folder, folder]
        for name in SYSTEM_FILES:
            words += ["--ro-bind-try", name, name]
        for path in readable:
            words += ["--ro-bind", path, path]
        for path in writable:
            words += ["--bind", path, path]
        for path in devices:
            words += ["--dev-bind", path, path]
        return [*words, "--chdir", "/tmp", "--", *argv]  # noqa: S108


@contextmanager
def network_namespace(run: Run, folder: Path) -> Iterator[Namespace]:
    """Keep a network namespace while the block lasts. Raise MigrateError where this machine allows none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [
        *("unshare", "--user", "--map-root-user", "--net", "--"),
        *(sys.executable, "-I", "-S", gate.__file__, str(theirs.fileno())),
    ]
    with ExitStack() as stack:
        stack.enter_context(ours)
        stack.enter_context(theirs)
        try:
            child = stack.enter_context(
                run.daemon(
                    argv,
                    ready=lambda: bool(select.select([ours], [], [], 0)[0]),
                    env=ENVIRONMENT,
                    log=folder / "gate.log",
                    pass_fds=(theirs.fileno(),),
                )
            )
        except ToolFailed as failed:
            raise MigrateError(
                f"the boot proof needs a network namespace of its own, and this machine gives none: {failed.message}",
                hint="Run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone, "
                "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns).",
            ) from failed
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
        listener = stack.enter_context(socket.socket(fileno=descriptors[0]))
        yield Namespace(child.pid, listener, ours)

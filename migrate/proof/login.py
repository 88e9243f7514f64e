"""The login by key: a fresh key, and OpenSSH's own client inside the guest's network.

Being refused is an answer, not an error: sshd is often up before cloud-init has given the user the key.
"""

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from migrate.proof.console import plain
from migrate.proof.facts import END, HELLO, Script, sections
from migrate.proof.machine import SSH_PORT
from migrate.proof.namespace import ENVIRONMENT, Namespace
from migrate.run import Run

OUTPUT_LIMIT = 1 << 20
"""Bytes that a guest may answer; the client is ended by the kernel when its output exceeds them."""
SSH_FAILED = 255
"""What ssh(1) ends with on an error of its own; any other status is that of the remote command."""
ADMITTED_S = 60.0
"""How long a guest may take from the connection to the first word of the script; 2 to 4 s were seen under emulation."""

# ssh_config(5). Nothing of the user's own configuration, agent or known hosts takes part.
OPTIONS = (
    *("BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey"),
    # The guest's host key is made during this boot, so nobody can know it; and nobody but the guest listens at the other end.
    *(
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
    ),
    *("ConnectTimeout=30", "ConnectionAttempts=1", "ServerAliveInterval=15", "ServerAliveCountMax=4"),
    *("ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "PermitLocalCommand=no", "ControlMaster=no"),
    *("RequestTTY=no", "EscapeChar=none", "LogLevel=ERROR"),
)
# What cloud-init puts before root's key. Source: cloud-init, cloudinit/ssh_util.py, DISABLE_USER_OPTS.
OTHER_USER = re.compile(r'Please login as the user "([a-z_][a-z0-9_.-]{0,31})" rather than')
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Key:
    """The private half lies in a file that only we may read, and that goes with the folder; `public` is a line of authorized_keys(5)."""

    file: Path
    public: str


def new_key(folder: Path) -> Key:
    """Make an ed25519 key in the folder."""
    private = Ed25519PrivateKey.generate()
    file = folder / "key"
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Key(file, f"{public} magalu-migrate-proof")


class Verdict(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    """The server wants another key or user."""
    OTHER_USER = "other user"
    """The key is right, and the server names the user to log in as."""
    NO_SHELL = "no shell"
    """The key was taken, and the user's shell ended without running anything."""
    CUT = "cut"
    """The connection did not come about, or ended."""


@dataclass(slots=True)
class Session:
    """One try to log in. `verdict` is None until it is known; `user` becomes the named one where another is named."""

    user: str
    script: Script
    client: Callable[[], int | None]
    output: Path
    log: Path
    began: float
    verdict: Verdict | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.client() is not None or self.verdict is Verdict.OTHER_USER or END in self.sections()

    def read(self, now: float) -> Verdict | None:
        """Look what the client printed, and return the verdict as far as it is known. `now` on the monotonic clock."""
        if self.verdict is None:
            status = self.client()
            text = self._printed()
            if self._greeted():
                self.verdict = Verdict.ADMITTED
            elif other := OTHER_USER.search(text):
                self.verdict, self.user = Verdict.OTHER_USER, other.group(1)
            elif status is not None and "Permission denied" in self.said():
                self.verdict = Verdict.REFUSED
            elif status not in (None, SSH_FAILED):
                self.verdict = Verdict.NO_SHELL
            elif status is not None or now - self.began > ADMITTED_S:
                self.verdict = Verdict.CUT
        return self.verdict

    def sections(self) -> dict[str, str]:
        """Return the sections of the script that have come so far."""
        return sections(self._raw(), self.script.mark)

    def said(self) -> str:
        """Return the client's own last words."""
        text = plain(self.log.read_bytes()[-4000:]) if self.log.exists() else ""
        return text.strip()

    def _greeted(self) -> bool:
        return f"\n{self.script.mark} {HELLO}\n" in self._printed()

    def _printed(self) -> str:
        return plain(self._raw())

    def _raw(self) -> bytes:
        if not self.output.exists():
            return b""
        with self.output.open("rb") as file:
            return file.read(OUTPUT_LIMIT)


@contextmanager
def logging_in(run: Run, namespace: Namespace, key: Key, user: str, script: Script) -> Iterator[Session]:
    """Try to log in as the user and run the script there; leaving the block ends the connection."""
    if not USER.fullmatch(user):
        raise ValueError(f"not the name of a user: {user!r}")
    folder = key.file.parent
    output, log = folder / "ssh.out", folder / "ssh.log"
    for leftover in (output, log):
        leftover.unlink(missing_ok=True)
    # The remote shell is whatever the user has; only the quoting of one word is asked of it.
    command = f"exec sh -c {shlex.quote(script.text)}"
    ssh: list[str | Path] = ["ssh", "-F", "none", "-E", log, "-i", key.file, "-p", str(SSH_PORT)]
    words = [*ssh, *(f"-o{option}" for option in OPTIONS), "--", f"{user}@127.0.0.1", command]
    argv = ["prlimit", f"--fsize={OUTPUT_LIMIT}", "--", *namespace.caged(words, writable=[folder])]
    with run.daemon(argv, ready=lambda: True, env=ENVIRONMENT, log=output) as client:
        yield Session(user, script, client.poll, output, log, time.monotonic())

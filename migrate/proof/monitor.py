"""QEMU's monitor: starts the processor at a known moment, and tells when the guest reset or switched itself off.

Source: QEMU, docs/interop/qmp-spec.txt.
"""

import json
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from migrate.errors import ToolFailed

QEMU = "qemu-system-x86_64"
MESSAGE_LIMIT = 1 << 20
ANSWER_S = 10.0


@dataclass(slots=True)
class Monitor:
    """Owns our end of the monitor's socket."""

    connection: socket.socket
    resets: int = 0
    """How often the guest restarted itself."""
    off: bool = False
    """The guest switched itself off."""
    closed: bool = False
    """QEMU has ended; its process says more."""
    _unread: bytes = b""
    _answers: deque[dict[str, object]] = field(default_factory=deque)

    def power_on(self) -> None:
        """Let the processor run. Raise ToolFailed where QEMU does not answer."""
        self._command("qmp_capabilities")
        self._command("cont")

    def save_memory(self, start: int, count: int, file: Path) -> None:
        """Let QEMU write `count` bytes from a physical address on into a file. Raise ToolFailed where it does not answer."""
        self._command("pmemsave", val=start, size=count, filename=str(file))

    def read(self) -> None:
        """Take in what QEMU told since the last call."""
        while not self.closed and select.select([self.connection], [], [], 0)[0]:
            received = self.connection.recv(65536)
            self.closed = not received
            self._unread += received
            *lines, self._unread = self._unread.split(b"\n")
            if len(self._unread) > MESSAGE_LIMIT:
                raise ToolFailed(QEMU, "an endless message on its monitor", "")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message: dict[str, object]) -> None:
        match message.get("event"):
            case None if "return" in message or "error" in message:
                self._answers.append(message)
            case "RESET" if _by_guest(message):
                self.resets += 1
            case "SHUTDOWN" if _by_guest(message):
                self.off = True

    def _command(self, name: str, **arguments: object) -> None:
        """Give a command and wait until it is done."""
        try:
            self.connection.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise ToolFailed(QEMU, f"a closed monitor, at {name}", "") from error
        deadline = time.monotonic() + ANSWER_S
        while True:
            self.read()
            if self._answers:
                break
            if self.closed or not select.select([self.connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise ToolFailed(QEMU, f"no answer to {name}", "")
        answer = self._answers.popleft()
        if "error" in answer:
            raise ToolFailed(QEMU, f"a refusal of {name}", json.dumps(answer["error"]))


def _by_guest(message: dict[str, object]) -> bool:
    details = message.get("data")
    return isinstance(details, dict) and details.get("guest") is True

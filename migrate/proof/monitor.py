"""QEMU's monitor: starts the processor at a known moment, and tells when the guest reset or switched itself off.

Source: QEMU, docs/interop/qmp-spec.txt.
"""

import json
import select
import socket
from collections import deque
from dataclasses import dataclass, field

from migrate.errors import ToolFailed

MESSAGE_LIMIT = 1 << 20


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

    def power_on(self, timeout: float = 10.0) -> None:
        """Let the processor run. Raise ToolFailed where QEMU does not answer."""
        for command in ("qmp_capabilities", "cont"):
            self.connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
            self._answer(command, timeout)

    def read(self) -> None:
        """Take in what QEMU told since the last call."""
        while not self.closed and select.select([self.connection], [], [], 0)[0]:
            received = self.connection.recv(65536)
            self.closed = not received
            self._unread += received
            *lines, self._unread = self._unread.split(b"\n")
            if len(self._unread) > MESSAGE_LIMIT:
                raise ToolFailed("qemu-system-x86_64", "an endless message on its monitor", "")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message: dict[str, object]) -> None:
        match message.get("event"):
            case None:
                self._answers.append(message)
            case "RESET" if _by_guest(message):
                self.resets += 1
            case "SHUTDOWN" if _by_guest(message):
                self.off = True

    def _answer(self, command: str, timeout: float) -> None:
        while True:
            self.read()
            while self._answers:
                message = self._answers.popleft()
                if "return" in message:
                    return
                if "error" in message:
                    raise ToolFailed("qemu-system-x86_64", f"a refusal of {command}", json.dumps(message["error"]))
            if self.closed or not select.select([self.connection], [], [], timeout)[0]:
                raise ToolFailed("qemu-system-x86_64", f"no answer to {command} after {timeout:.0f} s", "")


def _by_guest(message: dict[str, object]) -> bool:
    details = message.get("data")
    return isinstance(details, dict) and details.get("guest") is True

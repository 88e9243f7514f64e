"""A guest of the sandbox: an image booted by the code of the boot proof, with its metadata service, and reached by SSH from this machine.

The guest is shut in as in the proof: it reaches its metadata service and nothing else, and its disk is an overlay that goes with it. Somebody
on this machine reaches its port 22 on an address of 127.0.0.0/8, which stands for a public one; only root may listen there.
"""

import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from adapters.sandbox.hypervisor import Specification
from adapters.sandbox.relay import relayed
from migrate.blocks import Disk
from migrate.errors import MigrateError
from migrate.nbd import served, socket_path
from migrate.proof import kvm, symptoms
from migrate.proof.console import FLOOD
from migrate.proof.machine import GUEST_ADDRESS, SSH_PORT, Hardware, Machine, powered_on
from migrate.proof.metadata import MetadataService, new_instance
from migrate.proof.namespace import Namespace, network_namespace
from migrate.run import Run
from migrate.source import Firmware

MEMORY_MB = 1024
VCPUS = 2
"""What a guest gets at most, whatever its machine type says: as much as in the proof."""
PROBE_EVERY_S, PROBE_S = 3.0, 20.0
"""How often port 22 is tried, and how long a connection may stay silent: sshd needs some seconds under emulation."""
QUIET_S = 90.0
"""How long after sshd and the metadata a guest is believed to have come up whose console does not say that cloud-init is done."""
SSH = 22


@dataclass(slots=True)
class QemuGuest:
    """Implements adapters.sandbox.hypervisor.Guest."""

    machine: Machine
    namespace: Namespace
    service: MetadataService
    private_ipv4: str | None = None
    public_ipv4: str | None = None
    _banner_at: float | None = None
    _probe: socket.socket | None = None
    _probed_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        machine, now = self.machine, time.monotonic()
        machine.monitor.read()
        machine.console.read(now)
        if machine.console.size > FLOOD:
            raise MigrateError("the guest floods its console; it was switched off.")
        if not machine.monitor.off and (status := machine.child.poll()) is not None:
            raise MigrateError(f"QEMU ended with {status}: {machine.log.read_text('utf-8', 'replace').strip()[-300:]}")
        if self._banner_at is None and symptoms.is_dead(machine.console.last(4096)):
            raise MigrateError("; ".join(symptoms.found(machine.console.text())) or "the boot came to a dead end.")
        if self._banner_at is None and self._has_metadata:
            self._listen(now)

    @property
    def has_come_up(self) -> bool:
        if self._banner_at is None:
            return False
        said = self.machine.console.text()
        is_done = symptoms.CLOUD_INIT_DONE.search(said) or symptoms.KEYS_FOR.search(said)
        if is_done or time.monotonic() - self._banner_at > QUIET_S:
            self.private_ipv4 = GUEST_ADDRESS
            return True
        return False

    @property
    def is_off(self) -> bool:
        return self.machine.monitor.off

    def console(self) -> str:
        return self.machine.console.text()

    def dial(self) -> socket.socket | None:
        """Return a connection to the guest's port 22, None where there is none now. Safe from several threads; the caller closes it."""
        with self._lock:
            return self.namespace.dial(SSH_PORT)

    @property
    def _has_metadata(self) -> bool:
        """Whether the guest has fetched what holds its key."""
        asked = tuple(self.service.requests)
        return any(one.status == 200 and one.path.endswith(("meta_data.json", "openssh-key")) for one in asked)

    def _listen(self, now: float) -> None:
        """Look whether sshd answers, without waiting for it."""
        if self._probe is None:
            if now - self._probed_at >= PROBE_EVERY_S:
                self._probed_at, self._probe = now, self.dial()
            return
        self._probe.setblocking(False)
        try:
            said = self._probe.recv(64)
        except BlockingIOError:
            if now - self._probed_at < PROBE_S:
                return
            said = b""
        except OSError:  # refused by the guest: QEMU took the connection on its behalf
            said = b""
        self._probe.close()
        self._probe = None
        if said.startswith(b"SSH-"):
            self._banner_at = now


@contextmanager
def power(run: Run, wanted: Specification) -> Iterator[QemuGuest]:
    """Keep a guest on while the block lasts. Raise MigrateError where it cannot be switched on here, or its image has no room on its disk."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-", dir=run.work)))
        inner = Run(folder, run.listener, run.stop)
        uri = stack.enter_context(served(inner, wanted.image))
        namespace = stack.enter_context(network_namespace(inner, folder))
        identity = replace(
            new_instance(wanted.public_key, GUEST_ADDRESS), id=wanted.id, hostname=_host_name(wanted.name)
        )
        service = MetadataService(identity)
        stack.enter_context(service.serving(namespace.listener))
        hardware = Hardware(
            socket_path(uri),
            _disk_size(uri, wanted),
            Firmware.UEFI if wanted.uefi else Firmware.BIOS,
            min(wanted.memory_mb, MEMORY_MB),
            min(wanted.vcpus, VCPUS),
            kvm.usable(inner).usable,
            dumps_packets=False,
        )
        home = folder / "machine"
        home.mkdir(mode=0o700)
        machine = stack.enter_context(powered_on(inner, namespace, identity, hardware, home))
        guest = QemuGuest(machine, namespace, service)
        if wanted.wants_public_ip:
            guest.public_ipv4 = stack.enter_context(relayed(guest.dial, _loopback(wanted.id), SSH))
        yield guest


def _disk_size(uri: str, wanted: Specification) -> int:
    with Disk(uri) as disk:
        if disk.size > wanted.disk_gib << 30:
            raise MigrateError(f"the image's disk has {disk.size} bytes, and the machine type's {wanted.disk_gib} GiB")
    return wanted.disk_gib << 30


def _host_name(name: str) -> str:
    """Return what Nova makes of an instance's name. Source: nova/utils.py, sanitize_hostname."""
    return re.sub(r"[^a-z0-9.-]+", "", re.sub(r"[ _]", "-", name.lower())).strip("-.")[:63] or "server"


def _loopback(id_: str) -> str:
    """Return an address of this machine for an instance, always the same one."""
    octets = UUID(id_).bytes
    return f"127.77.{octets[0] % 254 + 1}.{octets[1] % 254 + 1}"

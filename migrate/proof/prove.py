"""Boot a disk in the sandbox, watch it, log in, and say what held."""

import tempfile
from pathlib import Path

from migrate.blocks import Disk
from migrate.errors import UsageError
from migrate.nbd import socket_path
from migrate.proof import checks, kvm
from migrate.proof.boot import Boot
from migrate.proof.login import USER, new_key
from migrate.proof.machine import GUEST_ADDRESS, Hardware, powered_on
from migrate.proof.metadata import MetadataService, new_instance
from migrate.proof.namespace import network_namespace
from migrate.proof.observed import Wanted
from migrate.proof.proof import Proof
from migrate.proof.reasons import reasons
from migrate.run import Run
from migrate.source import Firmware
from migrate.text import shown

LARGER = 4 << 30
"""How much larger than the image the disk is, in bytes, so that growing shows."""


def prove(
    run: Run,
    uri: str,
    *,
    firmware: Firmware,
    disk_size: int | None = None,
    expected_user: str | None = None,
    datasource: str = "openstack",
    root_grows: bool = True,
    memory_mb: int = 1024,
    vcpus: int = 2,
    timeout: float,
    use_kvm: bool | None = None,
) -> Proof:
    """Boot the disk behind an NBD endpoint, on an overlay, in a closed sandbox, and return what held; a failed boot is a Proof as well.

    The disk is never written. The guest reaches nothing but its metadata service. Everything made in `run.work` is removed. The boot, login and
    questions together take at most `timeout` seconds; `disk_size` in bytes, default 4 GiB more than the disk.
    `expected_user` is who the key must admit; None: whoever it admits. `root_grows=False` where it is known that the root cannot
    grow: the claim is told, and does not decide. `use_kvm` None means: where the probe says yes.
    Raise MigrateError where this machine cannot boot anything.
    """
    if expected_user is not None and not USER.fullmatch(expected_user):
        raise UsageError(f"{shown(expected_user)!r} is not the name of a user that could log in.")
    with Disk(uri) as disk:
        image_size = disk.size
    size = image_size + LARGER if disk_size is None else disk_size
    if size < image_size:
        raise UsageError(f"the disk of the proof ({size} bytes) is smaller than the image's ({image_size} bytes).")
    accelerated = kvm.usable(run).usable if use_kvm is None else use_kvm
    hardware = Hardware(socket_path(uri), size, firmware, memory_mb, vcpus, accelerated)
    with (
        tempfile.TemporaryDirectory(dir=run.work, prefix="prove-") as name,
        network_namespace(run, Path(name)) as namespace,
    ):
        secret, folder = Path(name, "secret"), Path(name, "machine")
        secret.mkdir(mode=0o700)
        folder.mkdir(mode=0o700)
        key = new_key(secret)
        service = MetadataService(new_instance(key.public, GUEST_ADDRESS))
        instance = service.instance
        wanted = Wanted(instance.mac, datasource, image_size, size, root_grows, expected_user, instance.id)
        with (
            service.serving(namespace.listener),
            powered_on(run, namespace, instance, hardware, folder) as machine,
        ):
            boot = Boot(run, machine, namespace, service, key, expected_user, timeout)
            boot.watch()
            seconds = boot.now()
    checked = checks.claims(boot.seen, wanted)
    return Proof(
        held=all(claim.held for claim in checked if claim.needed),
        firmware=firmware,
        accelerated=accelerated,
        cpu="max (KVM)" if accelerated else "max (emulated)",
        disk_size=size,
        claims=checked,
        reasons=reasons(boot.seen, checked),
        seconds=seconds,
        user=boot.seen.user,
        console=boot.seen.printed,
    )

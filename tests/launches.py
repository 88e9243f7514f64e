"""Pieces of a launch for tests: an image that is there already, a launcher, an order."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from adapters.magalu.api import Api
from adapters.magalu.launches import LaunchPatience, MagaluLauncher
from adapters.sandbox.shelf import Shelf
from migrate.ledger import Ledger
from migrate.run import Run
from migrate.target import InstanceOrder, LaunchOptions, Requirements
from tests.cloud import API_KEY, QUICK, Cloud, Notebook, credentials

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKj5cXuWhwIHBtLmZ1bV9vZl90aGVfdGVzdHM0 tests"
PATIENCE = LaunchPatience(poll=0.02, deadline=10, lookup=0.3, grace=0.2)
ORDER = InstanceOrder(
    name="erp01",
    mark="erp01-5f2c-0123456789ab",
    options=LaunchOptions("ops"),
    needs=Requirements(vcpu=2, ram_gb=4, disk_gb=11),
    disk_bytes=10 << 30,
    labels=("env=prod", "owner=João, TI"),
)


def active_image(folder: Path, *, name: str = "erp01-image") -> str:
    """An active image of a cloud that is begun in the folder afterwards."""
    shelf = Shelf(folder / "images")
    image = shelf.add(name=name, uefi=False, description=None, version=None, requirements=None)
    assert image is not None
    shelf.change(image.id, status="active")
    return image.id


def with_options(**options: Any) -> InstanceOrder:
    return replace(ORDER, options=replace(ORDER.options, **options))


@contextmanager
def http(there: Cloud, key: str = API_KEY) -> Iterator[httpx.Client]:
    """A plain client of the cloud; paths begin with the region's name, or /profile."""
    base = there.api_url.removesuffix("/br-se1/compute")
    with httpx.Client(base_url=base, headers={"X-API-Key": key}, trust_env=False) as opened:
        yield opened


def put_key(there: Cloud, name: str = "ops", key: str = KEY) -> None:
    with http(there) as client:
        assert client.post("/profile/v0/ssh-keys", json={"name": name, "key": key}).status_code == 201


@contextmanager
def launcher(
    run: Run,
    there: Cloud,
    *,
    begun: Mapping[str, str | None] | None = None,
    ledger: Ledger | None = None,
    patience: LaunchPatience = PATIENCE,
) -> Iterator[MagaluLauncher]:
    opened = Api(run, there.region, credentials(), QUICK)
    try:
        yield MagaluLauncher(run, opened, ledger or Notebook(), patience, begun or {})
    finally:
        opened.close()

"""An Azure VM on its way, in the words of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.azure import AzureSource, Pace, azure_source
from fixtures.emulators.azure import SUBSCRIPTION, Cloud
from migrate import ledger
from migrate.address import parse
from migrate.ledger import NoLedger
from migrate.run import Run

QUICK = Pace(attempts=4, first_pause=0.01, longest_pause=0.02, longest_retry_after=0.3, connect=5, read=10)


def address(name: str = "*", group: str = "rg1") -> str:
    return f"azure://{SUBSCRIPTION}/{group}/{name}"


@contextmanager
def source(cloud: Cloud, run: Run, where: str, told: ledger.Ledger | None = None) -> Iterator[AzureSource]:
    """The source of an address, with the credentials of the emulated subscription."""
    with cloud.environment(), azure_source(run, parse(where), told or NoLedger(), cloud.ca, pace=QUICK) as opened:
        yield opened


def token(opened: AzureSource, job: str = "job-1") -> str:
    (ref,) = opened.vms()
    return opened.freeze(opened.describe(ref), job)

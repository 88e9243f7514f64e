"""An Azure VM on its way, in the words of the tests; started as a program, it freezes, reads and releases, to be killed at any moment.

python -m tests.azure_journeys WORK ADDRESS CA
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.azure import AzureSource, Pace, azure_source
from fixtures.emulators.azure import SUBSCRIPTION, Cloud
from migrate import ledger
from migrate.address import parse
from migrate.job import Ledger
from migrate.ledger import NoLedger
from migrate.run import Run
from tests import file_samples as samples

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


def main(work: Path, where: str, ca: Path) -> None:
    with azure_source(Run(work), parse(where), Ledger(work / "ledger.jsonl"), ca, pace=QUICK) as opened:
        (ref,) = opened.vms()
        vm = opened.describe(ref)
        print("ready", flush=True)  # noqa: T201
        frozen = opened.freeze(vm, "killed")
        with opened.frozen(frozen) as disks:
            for disk in disks:
                with disk.nbd() as uri:
                    samples.served(uri)
        opened.release(frozen)
        print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

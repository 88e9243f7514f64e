"""A process that takes snapshots, reads and gives back, over and over, until it is killed: what tests/test_aws_undo.py kills.

python -m tests.aws_journeys FOLDER ADDRESS
"""

import sys
from itertools import count
from pathlib import Path

from adapters.aws import Patience, aws_source
from migrate.address import parse
from migrate.blocks import Disk
from migrate.job import Ledger
from migrate.run import Run

QUICK = Patience(settle=0.3, poll=0.05, stalled=5, ending=5)


def main() -> None:
    folder, address = Path(sys.argv[1]), sys.argv[2]
    run = Run(folder)
    with aws_source(run, parse(address), Ledger(folder / "ledger.jsonl"), patience=QUICK) as source:
        (ref,) = source.vms()
        vm = source.describe(ref)
        print("ready", flush=True)  # noqa: T201
        for number in count():
            token = source.freeze(vm, f"journey-{number}")
            with source.frozen(token) as (disk, *_), disk.nbd() as uri, Disk(uri) as opened:
                opened.read(3 << 20, 1 << 20)
            source.release(token)


if __name__ == "__main__":
    main()

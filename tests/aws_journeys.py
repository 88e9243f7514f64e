"""A process that makes, reads and gives back in AWS, over and over, until it is killed: what tests/test_aws_undo.py kills."""

import os
from collections.abc import Mapping
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path

from adapters.aws import Patience, aws_source
from migrate.address import parse
from migrate.blocks import Disk
from migrate.job import Jobs
from migrate.run import Run

QUICK = Patience(settle=0.3, poll=0.05, stalled=5, ending=5)


def journeys(work: Path, address: str, bucket: str | None, variables: Mapping[str, str], ready: Event) -> None:
    """Go on for ever, as a job of this work folder; by export where there is a bucket."""
    os.environ.update(variables)
    job = Jobs(work).find("killed", {"address": address})
    run = Run(job.folder)
    transport = "export" if bucket else "direct"
    with aws_source(run, parse(address), job.ledger, transport=transport, bucket=bucket, patience=QUICK) as source:
        (ref,) = source.vms()
        vm = source.describe(ref)
        ready.set()
        for number in count():
            token = source.freeze(vm, f"{job.mark}-{number}")
            with source.frozen(token) as (disk, *_), disk.nbd() as uri, Disk(uri) as opened:
                opened.read(3 << 20, 1 << 20)
            source.release(token)

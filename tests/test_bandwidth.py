"""A limit on sending: read, kept to, and changed while it holds."""

import threading
import time
from pathlib import Path

import pytest

from migrate.bandwidth import Throttle, limit, parse
from migrate.errors import UsageError


@pytest.mark.parametrize(
    ("said", "meant"),
    [("20M", 20_000_000), ("1.5g", 1_500_000_000), ("800KB/s", 800_000), ("512", 512), ("0", 0)],
)
def test_a_rate_is_read(said: str, meant: int) -> None:
    assert parse(said) == meant


@pytest.mark.parametrize("wrong", ["", "fast", "-1", "20 M B", "20Mi", "1e9"])
def test_what_is_no_rate_is_wrong_usage(wrong: str) -> None:
    with pytest.raises(UsageError, match="is no bandwidth"):
        parse(wrong)


def test_several_senders_together_keep_to_the_limit(tmp_path: Path) -> None:
    """What they were told to wait adds up to the time that the bytes need; nobody really waits."""
    waited: list[float] = []
    limit(tmp_path / "bandwidth", 1_000_000)
    throttle = Throttle(tmp_path / "bandwidth", waited.append)

    def send() -> None:
        for _ in range(50):
            throttle.take(10_000)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert 1.4 < max(waited) < 2.1, "two million bytes take two seconds, less the burst and the time that has passed"


def test_a_limit_that_changes_is_seen_by_who_sends(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth"
    throttle = Throttle(path)
    began = time.monotonic()
    throttle.take(10**12)
    assert time.monotonic() - began < 0.5, "no file is no limit"
    limit(path, 1000)
    waited: list[float] = []
    throttle = Throttle(path, waited.append)
    throttle.take(10_000)
    assert waited and waited[0] > 9
    limit(path, 0)
    time.sleep(1.1)
    throttle.take(10**12)
    assert len(waited) == 1

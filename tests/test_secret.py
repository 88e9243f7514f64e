"""A Secret shows itself to nobody by accident."""

import json
import pickle

import pytest

from migrate.secret import Secret


def test_a_secret_prints_as_stars() -> None:
    secret = Secret("hunter2")
    assert [str(secret), f"{secret}", f"{secret:>10}", repr(secret), f"{[secret]}"] == [
        "***",
        "***",
        "***",
        "Secret(***)",
        "[Secret(***)]",
    ]
    assert secret.reveal() == "hunter2"


def test_a_secret_is_never_written_to_a_file() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret("hunter2"))
    with pytest.raises(TypeError):
        json.dumps(Secret("hunter2"))

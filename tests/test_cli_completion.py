"""Completion as a shell asks for it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("magalu-migrate")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["pre"], "preview"), (["batch", "sch"], "schema"), (["vm", "x", "--profile", "gold"], "golden-image")],
)
def test_bash_completes_commands_and_values(words: list[str], wanted: str) -> None:
    script = subprocess.run([PROGRAM, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    typed = ["magalu-migrate", *words]
    ask = (
        f"{script}\nCOMP_WORDS=({shlex.join(typed)}); COMP_CWORD={len(words)}\n"
        '_magalu_migrate_completion magalu-migrate; echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, env=env, check=True)
    assert answer.stdout.split() == [wanted]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_theirs(shell: str) -> None:
    script = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert "_MAGALU_MIGRATE_COMPLETE" in script

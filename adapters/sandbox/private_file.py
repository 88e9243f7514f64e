"""Files with keys in them."""

import os
from pathlib import Path

from migrate.whole_file import write_whole


def write_private(path: Path, text: str) -> None:
    """The file holds this text, and from its first byte on only its owner can read it."""
    # write_whole() writes to this draft and renames it: its mode is what the file will have.
    os.close(os.open(path.with_name(path.name + ".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    write_whole(path, text.encode())

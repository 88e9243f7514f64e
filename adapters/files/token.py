"""The token of a frozen file: its path, and what its files were like. Nothing is made on disk: a file that nobody writes is frozen."""

import json
from dataclasses import dataclass
from pathlib import Path

from adapters.files.opened import Identity, OpenFile
from adapters.files.printable import printable
from migrate.errors import SourceError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Token:
    """`said` is the format that the user said. `files` by name, in order, all in the folder of `path`."""

    path: Path
    said: str | None
    files: tuple[tuple[str, Identity], ...]

    def text(self) -> str:
        files = [{"name": name, "inode": i.inode, "size": i.size, "mtime_ns": i.mtime_ns} for name, i in self.files]
        return json.dumps({"version": VERSION, "path": str(self.path), "format": self.said, "files": files})

    def check(self, files: tuple[OpenFile, ...]) -> None:
        """Raise SourceError where the files are not those of the token, with their content of then."""
        then, now = dict(self.files), {file.name: file.identity for file in files}
        for name in sorted(then | now):
            if then.get(name) != now.get(name):
                raise SourceError(
                    f"{printable(str(self.path.parent / name))} was changed since the migration began: "
                    f"{_told(then.get(name))} then, {_told(now.get(name))} now.",
                    hint="Start the migration anew.",
                )


def read_token(text: str) -> Token:
    """Read a token; raise SourceError where it is not one."""
    try:
        fields = json.loads(text)
        if fields["version"] != VERSION:
            raise ValueError(f"version {fields['version']}")
        files = tuple(
            (str(each["name"]), Identity(int(each["inode"]), int(each["size"]), int(each["mtime_ns"])))
            for each in fields["files"]
        )
        if any("/" in name for name, _ in files):
            raise ValueError("a file outside of the folder")
        said = fields["format"]
        return Token(Path(fields["path"]), None if said is None else str(said), files)
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"not a token of a frozen file: {printable(text, 80)} ({printable(str(error), 80)}).",
            hint="Start the migration anew.",
        ) from error


def _told(identity: Identity | None) -> str:
    if identity is None:
        return "not a file of this VM"
    return f"{identity.size} bytes (inode {identity.inode}, changed at {identity.mtime_ns / 1e9:.3f})"

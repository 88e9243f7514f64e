"""Small real disks with a guest's files on them, and their serving over NBD."""

import shutil
import socket as socket_module
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from migrate.guest import Entry, Folder
from migrate.guests.files import FolderFiles
from migrate.run import Run

MIB = 1 << 20
START = MIB
ROOT_UUID = "3c0f2f5e-0000-4000-8000-00000000000a"


def put(root: Path, entries: Mapping[str, Entry]) -> None:
    """Write a guest's entries into a folder; folders above them are made."""
    root.mkdir(exist_ok=True)
    files = FolderFiles(root)
    for path, entry in sorted(entries.items()):
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        files.store(path, entry)


def programs_of_host(root: Path, *names: str) -> None:
    """A guest, whose /lib and /lib64 lead into /usr, has these programs of this machine, with the libraries that they ask for."""
    for name in names:
        path = str(shutil.which(name))
        used = [word for word in sh("ldd", path).split() if word.startswith("/")]
        for file in (path, *used):
            at = root / file.replace("/lib", "/usr/lib", 1).replace("/usr/usr/", "/usr/", 1).lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, at)


def ext4_disk(path: Path, tree: Path, *, mib: int = 32, table: str = "dos") -> Path:
    """Make a raw disk whose only partition is an ext4 that holds the folder's content, attributes included."""
    with path.open("wb") as disk:
        disk.truncate((mib + 2) * MIB)
    sh("sfdisk", "--quiet", path, given=f"label: {table}\nstart=2048, size={mib}MiB\n")
    sh(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-U",
        ROOT_UUID,
        "-L",
        "root",
        "-d",
        tree,
        "-E",
        f"offset={START}",
        path,
        f"{mib}M",
    )
    return path


@contextmanager
def served(run: Run, disk: Path, fmt: str) -> Iterator[str]:
    """Serve a disk read-only over NBD while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="nbd-") as folder:
        socket = Path(folder) / "s"
        argv: list[str | Path] = [
            "qemu-nbd",
            "--read-only",
            "--persistent",
            "--shared=8",
            "--format",
            fmt,
            "--socket",
            socket,
            disk,
        ]
        with run.daemon(argv, ready=lambda: _answers(socket)):
            yield f"nbd+unix:///?socket={socket}"


def _answers(path: Path) -> bool:
    with socket_module.socket(socket_module.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(path))
        return True
    return False


def overlay_of(path: Path, backing: str, fmt: str = "raw") -> Path:
    """Make a qcow2 overlay of a disk or an NBD endpoint."""
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", fmt, "-b", backing, path)
    return path


def sh(*argv: str | Path, given: str | None = None) -> str:
    done = subprocess.run([str(word) for word in argv], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


FOLDERS: dict[str, Entry] = {path: Folder() for path in ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp")}
"""Where programs of a guest expect something to be mounted."""

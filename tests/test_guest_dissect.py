"""A guest looked at by Dissect: what is read is what was written, a hostile disk costs one answer, and what cannot be known is said."""

import io
import json
import mmap
import random
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from fixtures.machines import built
from migrate import preview as previews
from migrate.errors import GuestError, UsageError
from migrate.guest import DropPartition, Entry, File, Folder, Kind, Link, Package, PackageChange, Rebuild
from migrate.guests import xfs_log
from migrate.guests.cell import Unsuitable
from migrate.guests.disks import read_table
from migrate.guests.dissect_reader import BROKEN, TreeFiles
from migrate.guests.dissect_room import DissectGuest, check_installed, open_dissected
from migrate.guests.dissect_trees import tree_of
from migrate.guests.excerpt import excerpt
from migrate.guests.rooms import Choice, Rooms
from migrate.look import examined
from migrate.remediation import Settings
from migrate.run import Note, Run
from migrate.wiring.guests import REMEDIATIONS, offers
from migrate.wiring.sources import source
from tests.guest_disks import MIB, START, ext4_disk, put, served, sh
from tests.program import asked
from tests.test_guest_lvm import physical_volume


def _noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  (it shall be the same each time)


ROOT: dict[str, Entry] = {
    "/etc/os-release": File(b"ID=debian\nVERSION_ID=12\n"),
    "/etc/fstab": File(b"/dev/sda1 / auto defaults 0 1\n"),
    "/etc/secret": File(b"\xff\xfe", 0o600, 0, 42),
    "/etc/setuid": File(b"x", 0o4755, 100_000, 70_000),
    "/etc/empty": File(b""),
    "/etc/short": Link("../usr/lib/os-release"),
    "/etc/long": Link("/" + "far/" * 60 + "away"),
    "/etc/n\udce9w": File(b"odd"),
    "/var/large": File(_noise(1, 3 * MIB + 17)),
    "/boot": Folder(0o2750, 3, 4),
}
ROOT |= {f"/usr/many/{number:04}-{'x' * 40}": File(f"{number}".encode()) for number in range(700)}


def _ext4(image: Path, tree: Path) -> None:
    sh("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image, "48M")


def _ext2(image: Path, tree: Path) -> None:
    sh("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", tree, image, "48M")


def _btrfs(image: Path, tree: Path) -> None:
    with image.open("wb") as file:
        file.truncate(160 * MIB)
    sh("mkfs.btrfs", "-q", "--rootdir", tree, image)


def _xfs(image: Path, tree: Path) -> None:
    """By a list of what it shall hold, which knows no odd names. Source: mkfs.xfs(8), "PROTOFILE"."""
    lines = ["/", "0 0", *_proto(tree), "$"]
    listing = image.with_suffix(".proto")
    listing.write_text("\n".join(lines) + "\n")
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    sh("mkfs.xfs", "-q", "-p", listing, image)


def _proto(folder: Path) -> Iterator[str]:
    status = folder.stat()
    yield f"d--{stat.S_IMODE(status.st_mode) & 0o777:o} {status.st_uid} {status.st_gid}"
    for path in sorted(folder.iterdir()):
        status = path.lstat()
        owner = f"{status.st_uid} {status.st_gid}"
        marks = ("u" if status.st_mode & stat.S_ISUID else "-") + ("g" if status.st_mode & stat.S_ISGID else "-")
        mode = f"{marks}{stat.S_IMODE(status.st_mode) & 0o777:03o}"
        if path.is_symlink():
            yield f"{path.name} l{mode} {owner} {path.readlink()}"
        elif path.is_dir():
            inner = list(_proto(path))
            yield f"{path.name} d{mode} {owner}"
            yield from inner[1:]
            yield "$"
        else:
            yield f"{path.name} -{mode} {owner} {path}"


MAKERS = {"ext4": _ext4, "ext2": _ext2, "btrfs": _btrfs, "xfs": _xfs}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One file system of each kind that holds ROOT."""
    folder = tmp_path_factory.mktemp("images")
    found = {}
    for kind, make in MAKERS.items():
        tree = folder / f"{kind}-tree"
        put(tree, _holdable(kind))
        found[kind] = folder / f"{kind}.raw"
        make(found[kind], tree)
    return found


def _holdable(kind: str) -> Mapping[str, Entry]:
    return {path: entry for path, entry in ROOT.items() if kind != "xfs" or "\udce9" not in path}


def _opened(kind: str, content: bytes) -> TreeFiles:
    return TreeFiles(tree_of(kind, io.BytesIO(content)))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_was_written_is_read_back(images: Mapping[str, Path], kind: str) -> None:
    files = _opened("ext4" if kind == "ext2" else kind, images[kind].read_bytes())
    wanted = _holdable(kind)
    assert {path: files.load(path) for path in wanted} == dict(wanted)
    assert files.names("/usr/many") == tuple(sorted(path.rpartition("/")[2] for path in ROOT if "/many/" in path))
    told = files.statuses()
    assert {path: told[path].kind for path in wanted} == {path: files.kind(path) for path in wanted}


def test_vfat_shows_names_as_linux_does_and_follows_a_chain_wherever_it_leads(tmp_path: Path) -> None:
    image = tmp_path / "esp.raw"
    sh("mkfs.vfat", "-C", "-F", "32", "-n", "ESP", image, "65536")
    large = _noise(2, 200_000)
    (tmp_path / "large").write_bytes(large)
    sh("mmd", "-i", image, "::EFI", "::EFI/debian")
    for name in ("one", "two"):
        sh("mcopy", "-i", image, tmp_path / "large", f"::EFI/debian/{name}")
    sh("mdel", "-i", image, "::EFI/debian/one")
    sh("mcopy", "-i", image, tmp_path / "large", "::EFI/debian/a name of many letters.efi")
    files = _opened("vfat", image.read_bytes())
    assert files.names("/") == ("EFI",)
    assert files.names("/EFI/debian") == ("a name of many letters.efi", "two")
    for name in files.names("/EFI/debian"):
        assert files.load(f"/EFI/debian/{name}") == File(large)


class _Watched(io.FileIO):
    """A file that knows where it was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+b")
        self.places: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.places.append((self.tell(), size or 0))
        return super().read(size) or b""


PATHS = ("/etc/fstab", "/etc/short", "/etc/long", "/var/large", f"/usr/many/0300-{'x' * 40}")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_broken_file_system_is_an_answer_or_an_error_that_is_known(
    images: Mapping[str, Path], kind: str, tmp_path: Path
) -> None:
    """Bytes changed where a file system keeps its own; what Dissect raises is a class that its edge translates."""
    chance = random.Random(3)  # noqa: S311
    image = tmp_path / "image"
    sh("cp", "--sparse=always", images[kind], image)
    with _Watched(image) as file:
        _read_all(kind, file)
        # Data is read in large pieces; the nodes of a btrfs are 16 KiB each, and begin with what says what they are.
        small = {(at, size) for at, size in file.places if 0 < size <= 64 << 10}
        places = sorted((at + step, min(size - step, 200)) for at, size in small for step in range(0, size, 16 << 10))
        raised = 0
        for _ in range(20):
            at, size = chance.choice(places)
            place = at + chance.randrange(size)
            file.seek(place)
            before = file.read(4)
            _put_at(file, place, chance.choice((chance.randbytes(4), b"\xff\xff\xff\xff", bytes(4))))
            try:
                _read_all(kind, file)
            except (GuestError, *BROKEN):
                raised += 1
            _put_at(file, place, before)
    assert raised


def _put_at(file: io.FileIO, place: int, content: bytes) -> None:
    file.seek(place)
    file.write(content)


def _read_all(kind: str, file: io.FileIO) -> None:
    files = TreeFiles(tree_of(kind, cast(BinaryIO, file)))
    for path in PATHS:
        if files.kind(path) is not Kind.MISSING:
            files.load(path)


def test_the_reader_is_shut_in(tmp_path: Path) -> None:
    script = """
import os, socket, sys
from migrate.guests.dissect_reader import _shut_in
_shut_in()
for name, attempt in {
    "open": lambda: open("/etc/passwd"),
    "socket": lambda: socket.socket(),
    "write": lambda: os.write(int(sys.argv[1]), b"x"),
    "fork": os.fork,
}.items():
    try:
        attempt()
    except OSError as error:
        print(name, type(error).__name__, error.errno)
"""
    with (tmp_path / "file").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", script, str(file.fileno())],
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[file.fileno()],
        )
    # EMFILE, EMFILE, EFBIG (SIGXFSZ is ignored by Python), EAGAIN
    assert done.stdout.splitlines() == [
        "open OSError 24",
        "socket OSError 24",
        "write OSError 27",
        "fork BlockingIOError 11",
    ], done.stderr


@pytest.fixture
def disk(run: Run) -> Path:
    put(run.work / "tree", ROOT)
    return ext4_disk(run.work / "disk.raw", run.work / "tree")


@contextmanager
def _looked(run: Run, disk: Path, *, asked: bool = False) -> Iterator[DissectGuest]:
    with served(run, disk, "raw") as uri, open_dissected(run, uri, None, asked=asked) as guest:
        yield guest


def test_a_journal_that_was_not_replayed_is_replayed_in_memory(run: Run, disk: Path) -> None:
    put(run.work / "tree", {"/etc/journaled": File(b"old" + bytes(4093)), "/etc/revoked": File(b"old" + bytes(4093))})
    ext4_disk(disk, run.work / "tree")
    place = f"{disk}?offset={START}"
    blocks = [sh("debugfs", "-R", f"blocks /etc/{name}", place).split()[0] for name in ("journaled", "revoked")]
    (run.work / "new").write_bytes(b"\xc0\x3b\x39\x98" + b"new" + bytes(4089))
    # The second transaction gives a block up: what the first one says of it is void. debugfs(8), journal_write.
    written = f"jw -b {blocks[0]},{blocks[1]} {run.work / 'new'}2\njw -r {blocks[1]}\n"
    (run.work / "new2").write_bytes((run.work / "new").read_bytes() * 2)
    sh("debugfs", "-w", "-f", "-", place, given=f"jo\n{written}jc\n")
    before = disk.read_bytes()
    with _looked(run, disk) as guest:
        told = {name: guest.load(f"/etc/{name}") for name in ("journaled", "revoked")}
    # A block that begins as the journal's own blocks do is escaped there.
    assert [entry.content[:7] for entry in told.values() if isinstance(entry, File)] == [
        b"\xc0\x3b\x39\x98new",
        b"old" + bytes(4),
    ]
    assert disk.read_bytes() == before


def test_a_damaged_ext4_is_left_to_a_room_that_has_fsck(run: Run, disk: Path) -> None:
    sh("debugfs", "-w", "-R", "ssv state 2", f"{disk}?offset={START}")
    with pytest.raises(Unsuitable, match="/dev/sda1 is marked as damaged"), _looked(run, disk):
        pass


def test_a_folder_that_ends_too_soon_is_not_taken_for_a_smaller_one(run: Run, disk: Path) -> None:
    place = f"{disk}?offset={START}"
    block = int(sh("debugfs", "-R", "blocks /usr/many", place).split()[1])
    with disk.open("r+b") as file:
        file.seek(START + block * _block_size(place) + 4)
        file.write(b"\0\0")
    with (
        _looked(run, disk) as guest,
        pytest.raises(GuestError, match="damaged: Zero-length directory entry"),
    ):
        guest.names("/usr/many")


def _block_size(place: str) -> int:
    lines = sh("debugfs", "-R", "stats -h", place).splitlines()
    return next(int(line.split()[-1]) for line in lines if line.startswith("Block size:"))


def test_an_xfs_that_was_not_unmounted_is_left_to_another_room_or_told(
    run: Run, images: Mapping[str, Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare.raw"
    sh("cp", "--sparse=always", images["xfs"], bare)
    with bare.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        start, length = _log_of(content)

        def is_clean() -> bool:
            return xfs_log.is_clean(lambda at, count: content[start + at : start + at + count], length)

        assert is_clean()
        record = content.find(xfs_log.MAGIC.to_bytes(4, "big"), start)
        while content[record + 512 + 9] != xfs_log.UNMOUNT:
            record = content.find(xfs_log.MAGIC.to_bytes(4, "big"), record + 1)
        content[record + 512 + 9] = 0
        assert not is_clean()
    with pytest.raises(Unsuitable, match="its log was not replayed"), _looked(run, bare):
        pass
    notes: list[object] = []
    run.listener = notes.append
    with _looked(run, bare, asked=True) as guest:
        assert guest.os.id == "debian"
    assert [note.level for note in notes if isinstance(note, Note)] == ["warning"]


def _log_of(content: mmap.mmap) -> tuple[int, int]:
    """Return where the log begins in an xfs, and its length. Source: Linux, fs/xfs/libxfs/xfs_format.h, struct xfs_dsb."""
    block = int.from_bytes(content[4:8], "big")
    start, blocks = int.from_bytes(content[48:56], "big"), int.from_bytes(content[96:100], "big")
    shift, group = content[124], int.from_bytes(content[84:88], "big")
    return ((start >> shift) * group + (start & ((1 << shift) - 1))) * block, blocks * block


def test_a_volume_that_grew_is_read_in_its_pieces(run: Run, disk: Path) -> None:
    """An ext4 of 32 MiB whose second half lies before its first."""
    whole = disk.read_bytes()[START : START + 32 * MIB]
    text = """vg { id = "x" extent_size = 8192
        physical_volumes { pv0 { id = "UUID" pe_start = 2048 } }
        logical_volumes { root { status = ["VISIBLE"]
            segment1 { start_extent = 0 extent_count = 4 type = "striped" stripe_count = 1 stripes = ["pv0", 4] }
            segment2 { start_extent = 4 extent_count = 4 type = "striped" stripe_count = 1 stripes = ["pv0", 0] } } } }"""
    uuid = "A" * 32
    volume = bytearray(physical_volume(text.replace("UUID", uuid)))
    volume[512 + 32 : 512 + 64] = uuid.encode()
    volume[512 + 8] = 1
    volume[512 + 16 : 512 + 20] = _lvm_crc(bytes(volume[512 + 20 : 1024])).to_bytes(4, "little")
    with disk.open("wb") as file:
        file.truncate(40 * MIB)
    sh("sfdisk", "-q", disk, given="label: gpt\nstart=2048, size=36MiB\n")
    with disk.open("r+b") as file:
        for offset, content in ((0, bytes(volume)), (MIB, whole[16 * MIB :]), (17 * MIB, whole[: 16 * MIB])):
            file.seek(MIB + offset)
            file.write(content)
    with _looked(run, disk) as guest:
        assert guest.layout.root == "/dev/vg/root"
        assert guest.load("/var/large") == ROOT["/var/large"]


def _lvm_crc(content: bytes) -> int:
    """blkid believes a label only by this. Source: lvm2, lib/misc/crc.c, INITIAL_CRC."""
    return zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def test_an_excerpt_shows_the_table_that_the_disk_has(run: Run, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(3 << 30)
    lines = [
        "label: dos",
        "label-id: 0xfeed0001",
        "1 : start=2048,size=900MiB",
        "2 : start=1900000,type=5",
        "5 : start=1902048,size=500MiB",
        "6 : start=3000000,size=200MiB",
        "7 : size=300MiB",
    ]
    sh("sfdisk", "-q", disk, given="\n".join(lines))

    def read(offset: int, count: int) -> bytes:
        with disk.open("rb") as file:
            file.seek(offset)
            return file.read(count)

    said = json.loads(sh("sfdisk", "--json", disk))["partitiontable"]["partitions"]
    with excerpt(run, read, 3 << 30) as shown:
        shown.show_boot_records()
        table = read_table(shown, shown.path, 0)
    assert [(part.start, part.size) for part in table.partitions] == [
        (each["start"] * 512, each["size"] * 512) for each in said
    ]
    assert [part.number for part in table.partitions] == [1, 2, 5, 6, 7]


def test_a_ring_of_boot_records_ends(run: Run) -> None:
    record = bytearray(512)
    record[510:] = b"\x55\xaa"
    record[450], record[454:458] = 5, (1).to_bytes(4, "little")
    asked = []

    def read(offset: int, count: int) -> bytes:
        asked.append(offset)
        return bytes(record) if count == 512 else bytes(count)

    with excerpt(run, read, 1 << 20) as shown:
        shown.show_boot_records()
    assert len(asked) < 1100


def test_nothing_can_be_run_and_what_is_stored_is_forgotten(run: Run, disk: Path) -> None:
    before = disk.read_bytes()
    with _looked(run, disk) as guest:
        guest.store("/etc/secret", File(b"other"))
        assert guest.load("/etc/secret") == File(b"other")
        with pytest.raises(GuestError, match="only looked at"):
            guest.change_packages(PackageChange(remove=(Package("open-vm-tools", "1"),)))
        with pytest.raises(GuestError, match="only looked at"):
            guest.rebuild(Rebuild.INITRAMFS)
        with pytest.raises(GuestError, match="only looked at"):
            guest.change_layout(DropPartition(0, 1))
    with _looked(run, disk) as guest:
        assert guest.load("/etc/secret") == ROOT["/etc/secret"]
    assert disk.read_bytes() == before


def test_without_the_extra_its_name_and_its_licence_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dissect", None)
    with pytest.raises(UsageError) as refused:
        check_installed()
    assert refused.value.hint == "pip install 'magalu-migrate[preview]' (Dissect, AGPL-3.0)"


def test_nothing_is_repaired_in_it_and_that_is_said_before_anything_is_done(tmp_path: Path) -> None:
    for argv in (["vm", "erp01.raw", "--sandbox"], ["preview", "erp01.raw", "--rehearse"]):
        answer = asked(*argv, "--room=dissect", f"--work={tmp_path}")
        assert answer.code == 2 and "--room dissect only looks" in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "other", "offline"),
    [
        ("debian12-vmware", Choice.OVERLAY, False),
        ("debian12-cloud", Choice.OVERLAY, True),
        ("debian12-uefi", Choice.OVERLAY, True),
        ("debian12-azure", Choice.OVERLAY, True),
        ("debian12-aws", Choice.OVERLAY, True),
        ("debian12-lvm", Choice.APPLIANCE, True),
    ],
)
def test_a_preview_by_dissect_is_the_one_of_the_other_room(
    run: Run, machine: str, other: Choice, offline: bool
) -> None:
    """Where nothing is asked of repositories, it takes half the time."""
    disk = str(built(machine))
    told = {}
    for choice in (Choice.DISSECT, other):
        with source(run, disk, None) as (files, ref):
            vm = files.describe(ref)
            token = files.freeze(vm, ref.name)
            with (
                files.frozen(token) as disks,
                disks[0].nbd() as uri,
                Rooms(kvm=False, choice=choice, offers=offers((), (), offline=offline)).look(
                    run, uri, vm.firmware
                ) as guest,
            ):
                told[choice] = previews.to_json(examined(run, vm, guest, REMEDIATIONS, Settings()))
            files.release(token)
    assert told[Choice.DISSECT] == told[other]

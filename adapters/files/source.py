"""A VM in a file: a disk image, an OVA, or a folder with an OVF."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapters.files import manifest, qemu
from adapters.files.claims import claims
from adapters.files.disk import FileDisk
from adapters.files.examine import DISKS, image
from adapters.files.image import Image
from adapters.files.manifest import Checksum
from adapters.files.opened import Folder, OpenFile, Window, folder, whole
from adapters.files.ova import members
from adapters.files.ovf import LARGEST as LARGEST_OVF
from adapters.files.ovf import Ovf, ovf
from adapters.files.printable import printable
from adapters.files.refusals import Code
from adapters.files.token import Token, read_token
from migrate.errors import NotMigratable, Reason, SourceError, UsageError
from migrate.run import Note, Run
from migrate.source import BlockSource, Disk, Vm, VmRef

ORIGINS = {"vmdk": "VMware", "vhd": "Azure/Hyper-V", "vhdx": "Azure/Hyper-V"}
SAYABLE = (*DISKS, "ova", "ovf")
ONE_OVF = "Name the OVF file itself, or keep only one in the folder."


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the open files found. `windows` are what has a checksum, by the name in the manifest."""

    vm: Vm
    images: tuple[Image, ...]
    files: tuple[OpenFile, ...]
    windows: Mapping[str, Window]
    checksums: Mapping[str, Checksum]
    notes: tuple[str, ...]


class FileSource:
    """`path` is a disk, an OVA, an OVF, or a folder with one OVF; `format` one of SAYABLE where the user says it.

    What is refused, and with which code: adapters/files/refusals.py.
    """

    def __init__(self, run: Run, path: Path, format: str | None = None) -> None:
        if format is not None and format not in SAYABLE:
            raise UsageError(f'"{printable(format, 40)}" is not a format.', hint=f"Known are {', '.join(SAYABLE)}.")
        self._run = run
        self._path = path
        self._said = format
        self._verified: set[Token] = set()

    def vms(self) -> Iterator[VmRef]:
        yield VmRef(str(self._path), printable(self._path.stem or str(self._path), 80))

    def describe(self, ref: VmRef) -> Vm:
        """Return what the file's headers and its OVF tell; no data is read. Notes that are worth knowing are told.

        Raise NotMigratable with every reason, SourceError where the file is not there or cannot be read.
        """
        with _looked_at(self._run, Path(ref.address), self._said) as look:
            for text in look.notes:
                self._run.tell(Note(text, "warning"))
            return look.vm

    @property
    def freezes_nothing(self) -> bool:
        return True

    def freeze(self, vm: Vm, name: str) -> str:
        """Check all that takes time, and return a token with what the files are like. Nothing is made; `name` is not used.

        The manifest's checksums are checked and the tables of the images, once per run: a second call finds them checked.
        Raise NotMigratable where something does not hold.
        """
        with _looked_at(self._run, self._path, self._said) as look:
            taken = Token(_resolved(self._path), self._said, tuple((file.name, file.identity) for file in look.files))
            if taken not in self._verified:
                self._check_all(look)
                self._verified.add(taken)
            return taken.text()

    @contextmanager
    def frozen(self, token: str) -> Iterator[Sequence[BlockSource]]:
        """Open the disks of a token, boot disk first.

        Raise SourceError where a file was changed since, here or, while its disk is served, when serving ends.
        """
        taken = read_token(token)
        with _looked_at(self._run, taken.path, taken.said, taken) as look:
            yield tuple(FileDisk(self._run, each, look.files) for each in look.images)

    def release(self, token: str) -> None:
        """Nothing was made, nothing is undone."""

    def _check_all(self, look: _Look) -> None:
        reasons: list[Reason] = []
        for file, window in look.windows.items():
            if file in look.checksums:
                reasons += _reasons(partial(manifest.check, self._run, window, look.checksums[file]))
        for each in look.images:
            reasons += _reasons(partial(qemu.check_whole, self._run, each))
        for opened in look.files:
            opened.check_unchanged()
        if reasons:
            raise NotMigratable(look.vm.name, reasons)


@contextmanager
def _looked_at(run: Run, path: Path, said: str | None, then: Token | None = None) -> Iterator[_Look]:
    """Open a VM's files and look at them; they stay open for the block. With `then` they must be what they were then."""
    place = _resolved(path)
    is_folder = place.is_dir()
    with folder(place if is_folder else place.parent) as beside:
        if then is not None:
            then.check(_files_of(then, beside))  # first, because a changed file may not even be a disk any more
        file = _the_ovf(beside) if is_folder else beside.file_of_user(place.name)
        look = _look(run, file, beside, said)
        if then is not None:
            then.check(look.files)
        yield look


def _files_of(then: Token, beside: Folder) -> tuple[OpenFile, ...]:
    try:
        return tuple(beside.file_of_user(name) for name, _ in then.files)
    except NotMigratable as refused:
        raise SourceError(
            f"{refused.reasons[0].text}; it was when the migration began.",
            hint="Put it back, or start the migration anew.",
        ) from refused


def _resolved(path: Path) -> Path:
    """The path without links. The user may name a link; links beside it are not followed."""
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise SourceError(f"{printable(str(path))}: there is no such file.", hint="Check the path.") from error
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise SourceError(f"{printable(str(path))} cannot be opened: {printable(str(error))}.") from error


def _the_ovf(beside: Folder) -> OpenFile:
    names = [name for name in beside.names() if name.lower().endswith(".ovf")]
    if len(names) == 1:
        return beside.file_of_user(names[0])
    shown = printable(str(beside.path))
    found = ": " + ", ".join(printable(name, 60) for name in names[:20]) if names else ""
    text = f"the folder {shown} holds {len(names)} OVF descriptors{found}; one was wanted"
    remedy = ONE_OVF if names else "Name the disk's file itself."
    raise NotMigratable(shown, [Reason(Code.NOT_ONE_VM, text, remedy)])


def _look(run: Run, file: OpenFile, beside: Folder, said: str | None) -> _Look:
    subject = printable(file.name)
    if file.size == 0:
        raise NotMigratable(subject, [Reason(Code.EMPTY, f"{subject} is empty", "Copy it again.")])
    match claims(whole(file)):
        case ("tar",) if said in (None, "ova"):
            return _ova(run, file, beside, subject)
        case ("OVF",) if said in (None, "ovf"):
            return _ovf_folder(run, file, beside, subject)
        case _ if said in ("ova", "ovf"):
            text = f"{subject}: {said} was said, but by its content it is another format"
            raise NotMigratable(subject, [Reason(Code.OTHER_FORMAT, text, "Leave out --format.")])
    return _one_disk(run, file, beside, said)


def _one_disk(run: Run, file: OpenFile, beside: Folder, said: str | None) -> _Look:
    window = Window(file, printable(file.name), 0, file.size)
    found = image(window, beside, said=said)
    qemu.check_opens(run, found)
    origin = "VMware" if file.path.suffix.lower() == ".vmdk" else ORIGINS.get(found.format, "file")
    name = printable(file.path.stem, 80)
    vm = Vm(name, origin, (Disk(found.name, found.size, found.format),))
    return _Look(vm, (found,), beside.files, {}, {}, found.notes)


def _ova(run: Run, file: OpenFile, beside: Folder, subject: str) -> _Look:
    windows = {window.name: window for window in members(file)}
    descriptors = [name for name in windows if name.lower().endswith(".ovf")]
    if len(descriptors) != 1:
        text = f"{subject}: it holds {len(descriptors)} OVF descriptors, one was wanted"
        raise NotMigratable(subject, [Reason(Code.NOT_ONE_VM, text, "Export each VM for itself.")])
    told = ovf(windows[descriptors[0]].read(0, LARGEST_OVF + 1), f"{subject}: {descriptors[0]}")
    manifests = [windows[name] for name in windows if name.lower().endswith(".mf")]

    def window_of(name: str) -> Window:
        if name not in windows:
            text = f'{subject}: "{printable(name)}", a disk\'s file, is not in it'
            raise NotMigratable(subject, [Reason(Code.MISSING, text, "Export it again.")])
        return windows[name]

    found = _machine(run, told, subject, file, None, window_of)
    return _with_manifest(found, subject, manifests, windows[descriptors[0]], beside.files)


def _ovf_folder(run: Run, file: OpenFile, beside: Folder, subject: str) -> _Look:
    told = ovf(file.read(0, LARGEST_OVF + 1), subject)
    found = _machine(run, told, subject, file, beside, lambda name: whole(beside.file(name)))
    name = f"{file.path.stem}.mf"
    manifests = [whole(beside.file_of_user(name))] if name in beside.names() else []
    return _with_manifest(found, subject, manifests, whole(file), beside.files)


def _machine(
    run: Run, told: Ovf, subject: str, file: OpenFile, beside: Folder | None, window_of: Callable[[str], Window]
) -> _Look:
    """The VM of a descriptor with its disks; raise NotMigratable with every reason of every disk."""
    images: list[Image] = []
    windows: dict[str, Window] = {}
    notes: list[str] = []
    reasons: list[Reason] = []
    for disk in told.disks:
        try:
            windows[disk.href] = window_of(disk.href)
            found = image(windows[disk.href], beside)
            qemu.check_opens(run, found)
        except NotMigratable as refused:
            reasons += refused.reasons
            continue
        images.append(found)
        notes += found.notes
        if disk.capacity not in (None, found.size):
            notes.append(f"{found.name} is a disk of {found.size} bytes; the OVF tells of {disk.capacity}.")
    if reasons:
        raise NotMigratable(subject, tuple(dict.fromkeys(reasons)))
    if told.empty:
        notes.append(f"{subject} tells of {told.empty} further disks without content; they are left out.")
    vm = Vm(
        name=told.name or printable(file.path.stem, 80),
        origin=told.origin,
        disks=tuple(Disk(each.name, each.size, each.format) for each in images),
        firmware=told.firmware,
        vcpus=told.vcpus,
        memory_bytes=told.memory_bytes,
        nics=told.nics,
        os_hint=told.os_hint,
    )
    return _Look(vm, tuple(images), (), windows, {}, tuple(notes))


def _with_manifest(
    look: _Look, subject: str, manifests: list[Window], descriptor: Window, files: tuple[OpenFile, ...]
) -> _Look:
    """The look with what the manifest tells of its files. The descriptor and the disks are checked; nothing else is read."""
    if len(manifests) > 1:
        names = ", ".join(printable(each.name, 60) for each in manifests)
        text = f"{subject}: it holds {len(manifests)} manifests: {names}"
        raise NotMigratable(subject, [Reason(Code.BAD_MANIFEST, text, "Export it again.")])
    windows = {descriptor.name: descriptor, **look.windows}
    notes = list(look.notes)
    checksums: Mapping[str, Checksum] = {}
    if manifests:
        (found,) = manifests
        checksums = manifest.manifest(found.read(0, manifest.LARGEST + 1), f"{subject}: {printable(found.name)}")
        notes += [
            f"The manifest has no checksum of {printable(name)}; it is not checked."
            for name in windows
            if name not in checksums
        ]
    else:
        notes.append(f"{subject} has no manifest, so nothing tells whether it is as it was exported.")
    return _Look(look.vm, look.images, files, windows, checksums, tuple(notes))


def _reasons(checked: Callable[[], None]) -> tuple[Reason, ...]:
    try:
        checked()
    except NotMigratable as refused:
        return refused.reasons
    return ()

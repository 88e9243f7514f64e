"""SELinux labels: which of a guest's files have none, and which the guest's own policy gives them.

A file that is made while SELinux is not at work gets no label, and a guest that enforces its policy then does not let sshd read a new shadow
file, or systemd a new unit. restorecon(8) refuses to work without SELinux in the kernel and setfiles(8) is not in every guest, so the policy's list is
asked by the host's matchpathcon, and the attribute is set as it is. What has a label keeps it: an operator may have chosen it with chcon.

Sources: selinux(8), file_contexts(5), matchpathcon(8), selinux_config(5); swap files: mkswap.c in util-linux, SELINUX_SWAPFILE_TYPE.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from migrate.errors import GuestError, ToolFailed
from migrate.guest import File, Kind
from migrate.guests.disks import fstab_lines
from migrate.guests.paths import Files, resolved
from migrate.guests.releases import assignments
from migrate.guests.sandbox import give, sandboxed
from migrate.guests.system import text_of
from migrate.run import Limits, Run
from migrate.text import counted

ATTRIBUTE = "security.selinux"
CONFIG = "/etc/selinux/config"
NONE = "<<none>>"
"""What the policy says of files that shall have no label of their own (/proc, what is in /tmp)."""

LISTS = ("", ".homedirs", ".local", ".subs", ".subs_dist")
"""The parts of a policy's list: its own, users' homes, the operator's (semanage-fcontext(8)), and places that stand for others."""

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "lnk_file",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "sock_file",
    stat.S_IFCHR: "chr_file",
    stat.S_IFBLK: "blk_file",
}
"""matchpathcon's words for kinds of files."""

AT_ONCE = 500
LIMITS = Limits(address_space=1 << 30, cpu_seconds=300)


@dataclass(frozen=True, slots=True, order=True)
class Unlabelled:
    """A file without a label; `kind` in matchpathcon's words."""

    kind: str
    path: str


def kind_word(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "file")


def unlabelled_below(folder: Path) -> Iterator[Unlabelled]:
    """Yield what has no label in an overlay's upper folder, each path beginning with "/"; links are not followed."""
    for above, folders, names in os.walk(folder):
        for name in sorted((*folders, *names)):
            path = f"{above}/{name}"
            status = os.lstat(path)
            is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            if not is_whiteout and ATTRIBUTE not in os.listxattr(path, follow_symlinks=False):
                yield Unlabelled(kind_word(status.st_mode), path.removeprefix(str(folder)))


def set_labels(folder: Path, labels: Mapping[str, str]) -> None:
    """Files that `unlabelled_below` found have these labels: nothing changes the folder meanwhile."""
    for path, label in labels.items():
        os.setxattr(f"{folder}{path}", ATTRIBUTE, label.encode(), follow_symlinks=False)


def contexts(run: Run, files: Files, found: Iterable[Unlabelled]) -> Mapping[str, str]:
    """Return the label of each path that the guest's policy gives one. Raise GuestError where the policy cannot be read."""
    folder = Path(tempfile.mkdtemp(prefix="policy-", dir=run.work))
    try:
        _copy_lists(files, folder)
        labels: dict[str, str] = {}
        for kind, group in groupby(sorted(found), key=lambda each: each.kind):
            paths = [each.path for each in group]
            for start in range(0, len(paths), AT_ONCE):
                labels |= _looked_up(run, folder, kind, paths[start : start + AT_ONCE])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if labels and set(labels.values()) == {NONE}:
        raise GuestError(f"the guest's SELinux policy gives none of the {counted(len(labels), 'file')} a label")
    swap = _swap_files(files)
    return {path: _as_swap(label) if path in swap else label for path, label in labels.items() if label != NONE}


def policy_list(selinux_config: str) -> str:
    """Return where the list of labels is of the policy that a guest's configuration names."""
    return f"/etc/selinux/{assignments(selinux_config).get('SELINUXTYPE', 'targeted')}/contexts/files/file_contexts"


def _copy_lists(files: Files, folder: Path) -> None:
    """The compiled lists beside them are left out: they are read by the very version of the library that made them, or not at all."""
    path = policy_list(text_of(files, CONFIG) or "")
    for suffix in LISTS:
        at = resolved(files, path + suffix)
        entry = files.load(at) if files.kind(at) is Kind.FILE else None
        if isinstance(entry, File):
            (folder / f"file_contexts{suffix}").write_bytes(entry.content)
            give(folder / f"file_contexts{suffix}")
    give(folder)
    if not (folder / "file_contexts").exists():
        raise GuestError(f"the guest's SELinux policy has no list of labels: there is no {path}")


def _looked_up(run: Run, folder: Path, kind: str, paths: Sequence[str]) -> dict[str, str]:
    argv = ["matchpathcon", "-N", "-n", "-m", kind, "-f", "/policy/file_contexts", *paths]
    try:
        said = run.tool(sandboxed(argv, folder=(folder, "/policy")), limits=LIMITS, timeout=300).text
    except ToolFailed as error:
        raise GuestError(
            f"the guest's SELinux policy cannot be asked for labels: {error.stderr.strip()[-300:] or error}"
        ) from error
    labels = said.splitlines()
    if len(labels) != len(paths):
        raise GuestError(f"the guest's SELinux policy gave {len(labels)} labels for {len(paths)} files")
    return dict(zip(paths, labels, strict=True))


def _swap_files(files: Files) -> frozenset[str]:
    """A policy cannot list them by name, so mkswap labels them itself, where SELinux is at work."""
    lines = fstab_lines(text_of(files, "/etc/fstab") or "")
    return frozenset(line.spec for line in lines if line.type == "swap" and not line.spec.startswith("/dev/"))


def _as_swap(label: str) -> str:
    user, role, *rest = label.split(":")
    return ":".join((user, role, "swapfile_t", *rest[1:]))

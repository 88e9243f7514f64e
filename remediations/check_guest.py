"""Whether Magalu Cloud can run the guest at all, and what is broken in it that stands in the way of repairs: told, never changed."""

import re

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Kind
from migrate.remediation import Settings, remediation
from remediations.mount_table import Row

DPKG_STATUS = "/var/lib/dpkg/status"
UNIFIED_KERNELS = ("/boot/efi/EFI/Linux", "/efi/EFI/Linux", "/boot/EFI/Linux")
FSTAB = "/etc/fstab"
MOST_NAMED = 8

_STATUS = re.compile(r"(?m)^Status: *(\S+) +(\S+) +(\S+) *$")
_NAME = re.compile(r"(?m)^Package: *(\S+)")
_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?m:(?<!\S)#.*)""", re.DOTALL)
"""What a shell takes whole: sh(1), Quoting and comments. In a file that it can read, no quotation mark is left without it."""
_SETTLED = frozenset({"installed", "not-installed", "config-files", "triggers-awaited", "triggers-pending"})


@remediation(
    "check-guest",
    "See whether Magalu Cloud can run the guest at all",
    sources=(
        "docs.magalu.cloud, custom images: x86-64 only",
        "dpkg(1), Package states and Package selection states; yum-versionlock(8)",
        "fstab(5); sshd(8): with a line that it does not understand the server does not start",
        "UAPI Group, Unified Kernel Image: kernel, initramfs and command line in one signed file",
    ),
)
def check_guest(draft: Draft, settings: Settings) -> None:
    """Magalu Cloud's machines have x86-64 processors, so a guest for others is refused. Packages that were left half installed or are held
    back, and lines of fstab and sshd_config that their readers do not understand, are told: what is broken in the source is broken on the
    new machine too, and nobody is there at its console. Nothing is changed.
    """
    _check_processor(draft)
    _check_packages(draft)
    _check_fstab(draft)
    _check_sshd(draft)
    _check_grub(draft)
    _check_unified_kernels(draft)


def _check_processor(draft: Draft) -> None:
    arch, name = draft.os.arch, draft.os.pretty or "the guest"
    if arch == "i386":
        draft.find(
            "GUEST-012",
            f"{name} is a 32-bit system (its programs are for {arch}); Magalu Cloud's images are x86-64.",
            remedy="Install the application anew on a 64-bit image; or try it all the same: --waive GUEST-012",
            severity=Severity.ERROR,
        )
    elif arch != "amd64":
        draft.find(
            "GUEST-003",
            f"{name} is made for {arch} processors; Magalu Cloud's are x86-64 (amd64).",
            remedy="Install the application anew on an image of Magalu Cloud.",
            severity=Severity.ERROR,
        )


def _check_packages(draft: Draft) -> None:
    unsettled, held = [], []
    for stanza in (draft.read(DPKG_STATUS) or "").split("\n\n"):
        status, name = _STATUS.search(stanza), _NAME.search(stanza)
        if status is None or name is None:
            continue
        want, broken, state = status.groups()
        if state not in _SETTLED or broken != "ok":
            unsettled.append(f"{name[1]} ({state if broken == 'ok' else broken})")
        elif want == "hold" and state == "installed":
            held.append(name[1])
    for path in ("/etc/dnf/plugins/versionlock.list", "/etc/yum/pluginconf.d/versionlock.list", "/etc/zypp/locks"):
        lines = [line.strip() for line in (draft.read(path) or "").splitlines()]
        held += [line.partition("solvable_name:")[2].strip() or line for line in lines if _locks(line)]
    if unsettled:
        draft.find(
            "GUEST-014",
            f"packages were left half done: {_some(unsettled)}. What is installed now may finish them, or fail with them.",
            remedy="Run dpkg --configure -a and apt-get -f install in the source VM.",
        )
    if held:
        draft.find(
            "GUEST-015",
            f"packages are held at their version: {_some(held)}",
            remedy="They stay so; release them in the instance if that is not wanted.",
            severity=Severity.NOTE,
        )


def _locks(line: str) -> bool:
    """Whether a line of a list of locks holds a package; zypper writes several lines for each."""
    key, colon, _ = line.partition(":")
    return bool(line) and not line.startswith(("#", "!")) and (key == "solvable_name" or not colon or key.isdigit())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _check_fstab(draft: Draft) -> None:
    text = draft.read(FSTAB)
    if text is None:
        return
    for number, row in enumerate(map(Row, text.split("\n")), 1):
        columns = row.columns
        # What follows the sixth column is read by nobody: fstab-generator and findmnt take "… 0 2 # data disk" as it is meant.
        if columns and len(columns) < 3:
            draft.find(
                "GUEST-016",
                f"{FSTAB}:{number} has {len(columns)} columns, where at least 3 are wanted: {row.line.strip()[:120]}",
                remedy="Mend the line in the source VM; systemd leaves it out.",
            )
    if "\0" in text:
        text = f"{FSTAB} holds NUL bytes, as files do that were being written when a machine lost its power."
        draft.find("GUEST-016", text, remedy="Write it anew in the source VM.")
    if text.startswith("\ufeff"):
        text = f"{FSTAB} begins with a byte order mark, so that its first line names no device."
        draft.find("GUEST-016", text, remedy="Remove the first three bytes in the source VM.")


def _check_sshd(draft: Draft) -> None:
    for path in ("/etc/ssh/sshd_config", *draft.glob("/etc/ssh/sshd_config.d/*.conf")):
        for number, line in enumerate((draft.read(path) or "").splitlines(), 1):
            if (complaint := _sshd_complaint(line)) is not None:
                draft.find(
                    "GUEST-016",
                    f"{path}:{number} {complaint}, so that the SSH server does not start: {line.strip()[:120]}",
                    remedy="Mend it in the source VM and check it there: sshd -t",
                )


def _check_grub(draft: Draft) -> None:
    for path in ("/etc/default/grub", *draft.glob("/etc/default/grub.d/*.cfg")):
        if set("'\"") & set(_QUOTED.sub("", draft.read(path) or "")):
            draft.find(
                "GUEST-016",
                f"{path} has a quotation mark too few, so that grub-mkconfig fails.",
                remedy="Mend it in the source VM and check it there: sh -n",
            )


def _sshd_complaint(line: str) -> str | None:
    """Return what sshd does not understand of a line. Source: sshd_config(5); servconf.c, argv_split."""
    words = line.strip()
    if not words or words.startswith("#"):
        return None
    if "\0" in words:
        return "holds NUL bytes"
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9]*)(?:\s*=\s*|\s+|$)(.*)", words)
    if found is None:
        return "begins with no keyword"
    if not found[2]:
        return f"gives {found[1]} no value"
    if found[2].replace('\\"', "").count('"') % 2:
        return "has a quotation mark too few"
    return None


def _check_unified_kernels(draft: Draft) -> None:
    sealed = sorted(name for name in draft.packages if re.fullmatch(r"linux-(?:image-)?azure-fde.*|nullboot", name))
    if sealed:
        draft.find(
            "GUEST-019",
            f"the guest has kernels for Azure's confidential machines ({_some(sealed)}), signed as a whole and made for a disk that is sealed "
            "to a TPM.",
            remedy="Install an ordinary kernel (linux-image-generic) in the source VM, and make it the default.",
        )
    for folder in UNIFIED_KERNELS:
        images = [f"{folder}/{name}" for name in draft.names(folder) if name.lower().endswith(".efi")]
        if images and draft.kind("/boot/grub") is not Kind.FOLDER and draft.kind("/boot/grub2") is not Kind.FOLDER:
            draft.find(
                "GUEST-019",
                f"the guest starts unified kernel images, signed as a whole: {_some(images)}. Their initramfs and command line are not changed "
                "here, and Magalu Cloud's firmware does not know the source's keys for Secure Boot.",
                remedy="See that they hold virtio drivers and name the root by UUID; or install a kernel with an initramfs of its own.",
            )

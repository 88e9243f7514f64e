"""The configuration of what builds an initramfs, each in its own words: the drivers that shall be in it, now and after the next kernel update.

Sources: initramfs.conf(5), initramfs-tools(7); dracut.conf(5); SUSE's /etc/sysconfig/kernel; modprobe.conf(5) of RHEL 5, scsi_hostadapter;
Alpine's mkinitfs.conf and features.d; mkinitcpio.conf(5).
"""

import re
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.initramfs_builder import SUSE_CONFIG, Builder, Kind
from remediations import shell_variables

MODULES = "/etc/initramfs-tools/modules"
INITRAMFS_TOOLS = "/etc/initramfs-tools/conf.d/magalu-migrate"
DRACUT = "/etc/dracut.conf.d/50-magalu-migrate.conf"
DRACUT_FILES = ("/etc/dracut.conf", "/usr/lib/dracut/dracut.conf.d/*.conf", "/etc/dracut.conf.d/*.conf")
DRACUT_MODULES = re.compile(r"""^(\s*(?:force_)?(?:add_)?dracutmodules\+?=)["']([^"']*)["']\s*$""")
MODPROBE = "/etc/modprobe.conf"
MKINITFS = "/etc/mkinitfs/mkinitfs.conf"
MKINITCPIO = "/etc/mkinitcpio.conf"

OTHER_ADAPTERS = frozenset(
    {
        "mptbase",
        "mptscsih",
        "mptspi",
        "mptsas",
        "buslogic",
        "vmw_pvscsi",
        "pvscsi",
        "hv_storvsc",
        "storvsc",
        "xen_blkfront",
        "xenblk",
    }
)
"""Disk controllers of VMware, Hyper-V and Xen in a modprobe.conf."""


def add_drivers(draft: Draft, build: Builder, drivers: tuple[str, ...], *, why: str) -> None:
    """The builder's configuration asks for these modules."""
    match build.kind:
        case Kind.INITRAMFS_TOOLS:
            _for_initramfs_tools(draft, drivers, why)
        case Kind.DRACUT:
            _for_dracut(draft, drivers, why)
        case Kind.SUSE_MKINITRD:
            draft.edit(SUSE_CONFIG, lambda text: _with_words(text, "INITRD_MODULES", drivers), why=why)
        case Kind.RED_HAT_MKINITRD:
            draft.edit(
                MODPROBE, with_virtio_adapter, why="names the disk controller of another cloud, which mkinitrd reads"
            )
        case Kind.MKINITFS:
            draft.edit(MKINITFS, lambda text: _with_words(text, "features", ("virtio",)), why=why)
        case Kind.MKINITCPIO:
            draft.edit(MKINITCPIO, lambda text: with_array_words(text, "MODULES", drivers), why=why)


def initramfs_tools_modules(draft: Draft) -> str:
    """Return what MODULES= is ("most", "dep", …). The last file wins: mkinitramfs reads initramfs.conf, then conf.d in order."""
    value = "most"
    for path in ("/etc/initramfs-tools/initramfs.conf", *draft.glob("/etc/initramfs-tools/conf.d/*")):
        for line in (draft.read(path) or "").splitlines():
            key, equals, setting = line.strip().partition("=")
            if key == "MODULES" and equals:
                value = setting.split("#")[0].strip().strip("\"'")
    return value


def is_hostonly(draft: Draft) -> bool:
    """Whether dracut makes images for the machine only that it runs on. Drop-ins are read by their names, wherever they are."""
    main, *drop_ins = DRACUT_FILES
    paths = {PurePosixPath(path).name: path for pattern in drop_ins for path in draft.glob(pattern)}
    texts = [draft.read(main) or "", *(draft.read(paths[name]) or "" for name in sorted(paths))]
    said = [value for text in texts for _, name, value in shell_variables.assignments(text) if name == "hostonly"]
    return bool(said) and said[-1] == "yes"


def with_modules(text: str, wanted: tuple[str, ...]) -> str:
    """Return an initramfs-tools/modules file that names these modules too; `_` and `-` are the same to modprobe."""
    lines = text.split("\n")
    named = {line.split()[0].replace("-", "_") for line in lines if line.strip() and not line.lstrip().startswith("#")}
    new = [module for module in wanted if module not in named]
    return text + "\n" * (bool(text) and not text.endswith("\n")) + "".join(f"{module}\n" for module in new)


def with_virtio_adapter(text: str) -> str:
    """Return a modprobe.conf whose disk controllers are virtio_blk, once; controllers of real machines stay."""
    lines = []
    has = re.search(r"^\s*alias\s+scsi_hostadapter\w*\s+virtio_blk\s*$", text, re.MULTILINE) is not None
    for line in text.splitlines(keepends=True):
        words = line.split()
        is_other = (
            len(words) == 3
            and words[0] == "alias"
            and words[1].startswith("scsi_hostadapter")
            and words[2].lower().replace("-", "_") in OTHER_ADAPTERS
        )
        if is_other and not has:
            lines.append(f"alias {words[1]} virtio_blk\n")
            has = True
        elif not is_other:
            lines.append(line)
    return "".join(lines) + ("" if has else "alias scsi_hostadapter virtio_blk\n")


def with_array_words(text: str, name: str, wanted: tuple[str, ...]) -> str:
    """Return a file of bash whose array NAME=(…), or list NAME="…", holds these words too; the last assignment of it is changed."""
    pattern = re.compile(rf"""^(\s*{name}=)(\(([^)]*)\)|"([^"]*)"|'([^']*)')""", re.MULTILINE)
    found = list(pattern.finditer(text))
    if not found:
        return text + "\n" * (bool(text) and not text.endswith("\n")) + f"{name}=({' '.join(wanted)})\n"
    last = found[-1]
    words = next(group for group in last.groups()[2:] if group is not None).split()
    new = [word for word in wanted if word not in words]
    if not new:
        return text
    quotes = last[2][0] + last[2][-1]
    return f"{text[: last.start()]}{last[1]}{quotes[0]}{' '.join((*words, *new))}{quotes[1]}{text[last.end() :]}"


def without_network_legacy(text: str) -> str:
    """Return a dracut drop-in that does not ask for the network-legacy module; what asked for nothing else is gone."""
    kept = []
    for line in text.splitlines(keepends=True):
        found = DRACUT_MODULES.match(line)
        words = found[2].split() if found else []
        left = [word for word in words if word != "network-legacy"]
        if found is None or left == words:
            kept.append(line)
        elif left:
            kept.append(f'{found[1]}" {" ".join(left)} "\n')
    return "".join(kept)


def _for_initramfs_tools(draft: Draft, drivers: tuple[str, ...], why: str) -> None:
    draft.write(MODULES, with_modules(draft.read(MODULES) or "", drivers), why=why)
    if initramfs_tools_modules(draft) == "dep":
        draft.write(
            INITRAMFS_TOOLS,
            "# Written by magalu-migrate: MODULES=dep looks at the machine that builds, which is not the one that boots.\nMODULES=most\n",
            why="makes the initramfs fit the machine that builds it only",
        )


def _for_dracut(draft: Draft, drivers: tuple[str, ...], why: str) -> None:
    draft.write(
        DRACUT,
        "# Written by magalu-migrate: whichever machine builds the initramfs, it boots on KVM.\n"
        f'add_drivers+=" {" ".join(drivers)} "\n',
        why=why,
    )
    # Source: virt-v2v's notes on RHEL 8, 50-network-legacy.conf.
    if not any(draft.exists(path) for path in ("/usr/sbin/dhclient", "/sbin/dhclient")):
        for path in draft.glob("/etc/dracut.conf.d/*.conf"):
            text = draft.read(path) or ""
            after = without_network_legacy(text)
            reason = "asks for a module that needs dhclient, without which no initramfs is built"
            if not after.strip() and text.strip():
                draft.remove(path, why=reason)
            elif after != text:
                draft.write(path, after, why=reason)


def _with_words(text: str, name: str, wanted: tuple[str, ...]) -> str:
    words = shell_variables.variables(text).get(name, "").split()
    new = [word for word in wanted if word not in words]
    return shell_variables.assigned(text, name, " ".join((*words, *new))) if new else text

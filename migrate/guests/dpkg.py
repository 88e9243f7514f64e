"""Debian's package database: what is installed, what is half done, and which files a package owns. Pure text in, values out.

Sources: deb-control(5), dpkg-query(1), /var/lib/dpkg in dpkg(1).
"""

from collections.abc import Iterator, Mapping

from migrate.guest import Package

STATUS = "/var/lib/dpkg/status"
INFO = "/var/lib/dpkg/info"

INSTALLED = "installed"
FINISHED = frozenset({INSTALLED, "not-installed", "config-files"})
"""The states that no work is left in; dpkg(1), "Package states"."""


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a control file as field → value, continuation lines included."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += "\n" + line
        else:
            name, colon, value = line.partition(":")
            if colon:
                last = name.strip().capitalize()
                fields[last] = value.strip()
    if fields:
        yield fields


def installed(status: str, arch: str) -> dict[str, Package]:
    """Return what is installed, by name; a package of another architecture than `arch` is called "name:arch", as apt does."""
    found = {}
    for record in status.split("\n\n"):
        fields = next(stanzas(record), {})
        if _state(fields) != INSTALLED or "Package" not in fields:
            continue
        package = Package(
            fields["Package"], fields.get("Version", ""), fields.get("Architecture", arch), record.strip("\n")
        )
        foreign = package.arch not in (arch, "all")
        found[f"{package.name}:{package.arch}" if foreign else package.name] = package
    return found


def unfinished(status: str) -> tuple[str, ...]:
    """Return the packages that dpkg stopped in the middle of, each with its state: "foo (half-configured)"."""
    return tuple(
        f"{fields.get('Package', '?')} ({_state(fields)})"
        for fields in stanzas(status)
        if _state(fields) not in FINISHED and not _state(fields).startswith("triggers-")
    )


def complaint(status: str, infos: int) -> str | None:
    """Return what dpkg would not read of a status file; None where it would. `infos` counts the files in INFO.

    Source: dpkg, lib/dpkg/parse.c; a machine that lost its power leaves files cut off, empty, or full of zeros.
    """
    if not status.strip():
        return "it is empty, and INFO tells of packages" if infos else None
    if "\0" in status:
        return f"NUL bytes at line {status[: status.index(chr(0))].count(chr(10)) + 1}"
    if not status.endswith("\n"):
        return f"it is cut off in line {status.count(chr(10)) + 1}"
    line = 1
    for record in status.split("\n\n"):
        fields = next(stanzas(record), {})
        missing = [name for name in ("Package", "Status") if name not in fields]
        if _state(fields) == INSTALLED and "Version" not in fields:
            missing.append("Version")
        if fields and missing:
            return f"the paragraph at line {line} has no {' and no '.join(missing)}"
        line += record.count("\n") + 2
    return None


def conffiles(record: str) -> frozenset[str]:
    """Return the configuration files that a package's stanza names; those marked obsolete too, for the package still owns them."""
    lines = next(stanzas(record), {}).get("Conffiles", "").split("\n")
    return frozenset(line.split()[0] for line in lines if line.strip())


def owned(listing: str) -> frozenset[str]:
    """Return the files of an info/*.list; folders that hold another entry are left out."""
    paths = {line for line in listing.split("\n") if line.startswith("/") and line != "/."}
    return frozenset(paths - {path.rpartition("/")[0] for path in paths})


def list_names(package: Package) -> tuple[str, str]:
    """Return the names that a package's list of files may have in INFO: with the architecture for "Multi-Arch: same"."""
    return f"{package.name}:{package.arch}.list", f"{package.name}.list"


def status_text(packages: Mapping[str, Package]) -> str:
    """Return a status file that holds these packages: what a resolver reads."""
    return "".join(f"{package.record or _made_up(package)}\n\n" for package in packages.values())


def _made_up(package: Package) -> str:
    return (
        f"Package: {package.name}\nStatus: install ok installed\nPriority: optional\nSection: misc\n"
        f"Maintainer: nobody <nobody@invalid>\nArchitecture: {package.arch}\nVersion: {package.version}\nDescription: {package.name}"
    )


def _state(fields: Mapping[str, str]) -> str:
    return (fields.get("Status", "").split() or ["not-installed"])[-1]

"""What apt takes for wanted, and what for installed only because something else needed it.

Sources: apt-mark(8), "auto" and "manual"; apt-get(8), autoremove; /var/lib/apt/extended_states: stanzas as in deb822(5), and what has none is wanted.
"""

import re

from migrate.draft import Draft
from remediations.vendors.catalogue import Vendor
from remediations.vendors.patterns import installed

STATES = "/var/lib/apt/extended_states"


def keep_what_metapackages_named(draft: Draft, vendor: Vendor) -> None:
    """What a metapackage names is marked as wanted, where the metapackage goes because it also names a package of the vendor's."""
    going = frozenset(installed(draft, vendor.packages))
    for name in installed(draft, vendor.metapackages):
        named = named_by(draft.packages[name].record)
        if named & going:
            draft.edit(
                STATES,
                lambda text, wanted=named - going: marked_as_wanted(text, wanted),  # type: ignore[misc]
                why=f"lets `apt autoremove` take what only {name} named, which goes with {vendor.name}'s packages",
            )


def named_by(record: str) -> frozenset[str]:
    """Return the packages that a stanza of dpkg's names in Depends, Pre-Depends and Recommends, alternatives included."""
    fields = re.findall(
        r"^(?:Pre-)?(?:Depends|Recommends):((?:.*)(?:\n[ \t].*)*)", record, re.MULTILINE | re.IGNORECASE
    )
    relations = (relation.strip() for field in fields for relation in re.split(r"[,|]", field))
    return frozenset(re.split(r"[\s:(\[]", relation)[0] for relation in relations if relation)


def marked_as_wanted(text: str, names: frozenset[str]) -> str:
    """Return an extended_states in which these packages are not automatically installed; stanzas of others stay as they are."""
    stanzas = re.split(r"(\n[ \t]*\n)", text)
    return "".join(_wanted(stanza) if _package(stanza) in names else stanza for stanza in stanzas)


def _package(stanza: str) -> str:
    found = re.search(r"^Package:\s*(\S+)", stanza, re.MULTILINE)
    return found[1] if found else ""


def _wanted(stanza: str) -> str:
    return re.sub(r"^(Auto-Installed:\s*)1", r"\g<1>0", stanza, flags=re.MULTILINE)

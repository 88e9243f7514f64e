"""SELinux: what was written offline gets the labels that the guest's policy gives it."""

from migrate.draft import Draft
from migrate.guest import Rebuild
from migrate.remediation import Settings, remediation
from remediations import kernel_arguments, shell_variables

CONFIG = "/etc/selinux/config"
ON = ("enforcing", "permissive")


@remediation(
    "relabel-selinux",
    "Give the files that were written their SELinux labels",
    sources=(
        "selinux_config(5), file_contexts(5), matchpathcon(8), restorecon(8)",
        "Linux, security/selinux: a file without a label is unlabeled_t, which services may not read",
        "fixfiles(8), /.autorelabel",
    ),
)
def relabel_selinux(draft: Draft, settings: Settings) -> None:
    """A guest that enforces SELinux lets no service read a file without a label: sshd would not read a new shadow file, and nobody could log in.

    Where SELinux is on, everything that the repairs wrote and that has no label gets the one of the guest's own policy, the operator's rules
    included; labels that are there stay. Only where that cannot be done does the guest label all its files at its first start, which costs
    minutes and a restart. A guest whose SELinux is off, and AppArmor, are left as they are.
    """
    if not draft.changed or not is_on(draft):
        return
    policy = f"/etc/selinux/{_setting(draft, 'SELINUXTYPE') or 'targeted'}/contexts/files/file_contexts"
    if draft.file(policy) is None:
        draft.find(
            "SEL-001",
            f"SELinux is on ({CONFIG}), and its policy's list of labels, {policy}, is not there: what was written gets no labels.",
            remedy="Install the policy in the source VM, or switch SELinux off there.",
        )
        return
    draft.rebuild(Rebuild.SELINUX_LABELS, why="keeps services from files that have no label")


def is_on(draft: Draft) -> bool:
    """Whether the guest's kernel loads a policy: its configuration says so, and no kernel argument says otherwise."""
    if _setting(draft, "SELINUX").lower() not in ON:
        return False
    lines = [words for _, words in kernel_arguments.command_lines(draft)]
    if draft.os.family == "debian":  # its kernels take AppArmor unless told otherwise: selinux-activate(8)
        return any("security=selinux" in words or "selinux=1" in words for words in lines)
    return not lines or not all("selinux=0" in words for words in lines)


def _setting(draft: Draft, name: str) -> str:
    return shell_variables.variables(draft.read(CONFIG) or "").get(name, "")

"""A preview reads like an answer: whether it can go, what changes, why, and what is left to know."""

import json

from migrate import preview
from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import DropPartition, File, MakeSwapFile, Package, Rebuild
from migrate.guests.memory import Held, MemoryGuest
from migrate.login import login_user
from migrate.look import examined
from migrate.preview import Preview
from migrate.remediation import Remediation, Settings, remediation
from migrate.run import Run
from migrate.source import Disk, Vm

VM = Vm("erp01", "VMware", (Disk("disk1", 10 << 30, "vmdk"),))


@remediation("tidy-up", "Tidy up")
def tidy_up(draft: Draft, settings: Settings) -> None:
    """A bit of everything."""
    draft.purge("old-agent", why="belongs to the old cloud")
    draft.install("new-agent", why="brings the key")
    draft.edit("/etc/hosts", lambda text: text.replace("old", "new"), why="names the old cloud")
    draft.write("/etc/new.conf", "a=1\n", why="is read by the agent", mode=0o600)
    draft.remove("/var/lib/old", why="holds the old cloud's state")
    draft.change_layout(MakeSwapFile("/swapfile", 1 << 30), why="replaces a partition")
    draft.change_layout(DropPartition(0, 3), why="lies behind the root")
    draft.rebuild(Rebuild.INITRAMFS, why="lacks virtio")
    draft.find("NET-007", "/etc/app.conf names 10.0.0.1", remedy="Change it.")
    draft.keep("network before", "ens192 10.0.0.1/24")


@remediation("refuse", "Refuse")
def refuse(draft: Draft, settings: Settings) -> None:
    """It cannot be."""
    draft.find("BOOT-002", "the kernel has no virtio", severity=Severity.ERROR)


def guest() -> MemoryGuest:
    return MemoryGuest(
        {
            "/etc/hosts": File(b"127.0.0.1 old\n"),
            "/etc/cloud/cloud.cfg": File(b"system_info: {default_user: {name: first}}\n"),
            "/etc/cloud/cloud.cfg.d/90.cfg": File(b"system_info: {default_user: {name: admin}}\n"),
            "/etc/cloud/cloud.cfg.d/99.cfg": File(b": not yaml: ["),
            "/var/lib/old/a": File(b""),
            "/var/lib/old/b": File(b""),
        },
        packages=[Held(Package("old-agent", "1.0"))],
        available=[Held(Package("new-agent", "2.0"), size=2048)],
    )


def shown(run: Run, *remediations: Remediation) -> str:
    found = examined(run, VM, guest(), remediations, Settings())
    return "\n".join(line.text for line in preview.lines(found, remediations))


def test_the_answer_comes_first_then_the_evidence(run: Run) -> None:
    text = shown(run, tidy_up)
    plan = examined(run, VM, guest(), (tidy_up,), Settings()).changes.plan
    assert text == (
        "erp01 · Debian GNU/Linux 12 (bookworm) · BIOS · 10 GiB · from VMware\n"
        "\n"
        "It can go. 8 changes, 1 warning; afterwards it is reached by key as `admin` on a DHCP address.\n"
        "\n"
        "  remove   old-agent 1.0\n"
        "  remove   1 folder\n"
        "  install  new-agent 2.0 (1 package, 2 KiB, from the guest's own repositories)\n"
        "  change   /etc/hosts\n"
        "  add      /etc/new.conf\n"
        "  disk     make the swap file /swapfile of 1 GiB\n"
        "  disk     delete partition 3 of disk 1\n"
        "  rebuild  initramfs, because it lacks virtio\n"
        "\n"
        "  warning NET-007   /etc/app.conf names 10.0.0.1\n"
        "                    Change it.\n"
        "\n"
        "network before: ens192 10.0.0.1/24\n"
        "(kept: the result of `vm --output json` has it)\n"
        "\n"
        "tidy-up: tidy up\n"
        "  remove 1 package                                 because it belongs to the old cloud\n"
        "         old-agent 1.0\n"
        "  install 1 package                                because it brings the key\n"
        "         new-agent 2.0\n"
        "  edit   /etc/hosts                                because it names the old cloud\n"
        "    @@ -1 +1 @@\n"
        "    -127.0.0.1 old\n"
        "    +127.0.0.1 new\n"
        "  add    /etc/new.conf                             because it is read by the agent\n"
        "    mode 0600\n"
        "    @@ -0,0 +1 @@\n"
        "    +a=1\n"
        "  remove /var/lib/old and 2 entries in it          because it holds the old cloud's state\n"
        "  make the swap file /swapfile of 1 GiB            because it replaces a partition\n"
        "  delete partition 3 of disk 1                     because it lies behind the root\n"
        "  rebuild the initramfs                            because it lacks virtio\n"
        "\n"
        f"plan {plan}"
    )


def test_a_guest_that_needs_nothing_is_told_so(run: Run) -> None:
    assert "It can go as it is: nothing to change; it is reached by key as `admin` on a DHCP address." in shown(run)


@remediation("doubt", "Doubt")
def doubt(draft: Draft, settings: Settings) -> None:
    """The key may admit nobody."""
    draft.find("SSH-012", "DenyUsers admin keeps out admin")
    draft.find("SSH-012", "DenyGroups admin keeps out admin")
    draft.find("SSH-002", "logins need more than a key")


def test_where_a_key_may_admit_nobody_the_answer_does_not_promise_it(run: Run) -> None:
    doubtful = "3 warnings; whether a key admits anybody is doubtful: SSH-002, SSH-012.\n"
    assert f"It can go. Nothing to change, {doubtful}" in shown(run, doubt)
    found = examined(run, VM, guest(), (doubt, tidy_up), Settings())
    assert (
        preview.html(found, (doubt, tidy_up)).count("whether a key admits anybody is doubtful: SSH-002, SSH-012.") == 1
    )
    assert "reached by key" not in preview.html(found, (doubt, tidy_up))


def test_a_refusal_is_the_answer(run: Run) -> None:
    assert "It cannot go, for 1 reason. Nothing was touched." in shown(run, refuse)


def test_the_json_holds_the_same_facts(run: Run) -> None:
    found = examined(run, VM, guest(), (tidy_up,), Settings())
    values = json.loads(json.dumps(preview.to_json(found)))
    assert values["can_go"] is True
    assert values["login"] == "admin"
    assert values["changes"]["plan"] == found.changes.plan
    assert [effect["effect"] for effect in values["changes"]["effects"]] == [
        *("packages", "packages", "edit", "edit", "remove"),
        *("make swap file", "drop partition", "rebuild"),
    ]
    assert values["changes"]["effects"][2]["diff"] == ["@@ -1 +1 @@", "-127.0.0.1 old", "+127.0.0.1 new"]
    assert values["changes"]["findings"][0]["code"] == "NET-007"


def test_the_user_is_whom_cloud_init_gives_the_key_to() -> None:
    assert login_user(Draft(guest())) == "admin"
    assert login_user(Draft(MemoryGuest({}))) == "debian"


def test_foreign_text_cannot_draw_on_the_terminal(run: Run) -> None:
    vm = Vm("erp\x1b[2J01", "file", (Disk("d", 1, "raw"),))
    found: Preview = examined(run, vm, guest(), (), Settings())
    assert not any("\x1b" in line.text for line in [*preview.lines(found, ()), *preview.inventory(found)])

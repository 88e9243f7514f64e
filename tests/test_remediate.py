"""Preview and apply are the same remediations: what one says, the other does."""

import pytest

from migrate.draft import Draft
from migrate.effects import Edit, PackageEdit, RebuildRequest, Severity
from migrate.errors import Reason
from migrate.guest import File, Package, Rebuild
from migrate.guests.memory import Held, Kernel, MemoryGuest
from migrate.refusals import refusals
from migrate.remediate import preview, remediate
from migrate.remediation import GOLDEN_ONLY, Profile, Remediation, Settings, remediation
from migrate.run import Run


@remediation("install-agent", "Install the agent")
def install_agent(draft: Draft, settings: Settings) -> None:
    """The agent is installed."""
    draft.install("agent", why="the cloud needs it")


@remediation("set-hosts", "Write the hosts file")
def set_hosts(draft: Draft, settings: Settings) -> None:
    """The hosts file names us, whatever it said."""
    draft.write("/etc/hosts", "127.0.0.1 localhost\n", why="it must")


@remediation("add-line", "Add a line")
def add_line(draft: Draft, settings: Settings) -> None:
    """The hosts file has our line at its end."""
    draft.edit("/etc/hosts", lambda t: t if t.endswith("::1\n") else t + "::1\n", why="of IPv6")


@remediation("rebuild-twice", "Rebuild")
def rebuild_twice(draft: Draft, settings: Settings) -> None:
    """The initramfs is rebuilt, however often it is asked for."""
    if draft.read("/etc/initramfs-tools/modules") is None:
        draft.write("/etc/initramfs-tools/modules", "virtio_blk\n", why="of virtio")
        draft.rebuild(Rebuild.INITRAMFS, why="of virtio")
        draft.rebuild(Rebuild.INITRAMFS, why="again")


ALL: tuple[Remediation, ...] = (install_agent, set_hosts, add_line, rebuild_twice)


def guest() -> MemoryGuest:
    return MemoryGuest(
        {"/etc/hosts": File(b"old\n")},
        available=[Held(Package("agent", "1.0"), {"/usr/bin/agent": File(b"")})],
        kernels=[Kernel("6.1", {"virtio_blk": ()})],
    )


def test_a_preview_writes_nothing(run: Run) -> None:
    below = guest()
    tree = dict(below.tree)
    preview(run, below, ALL, Settings())
    assert dict(below.tree) == tree


def test_apply_does_what_the_preview_said_and_a_second_time_nothing(run: Run) -> None:
    below = guest()
    promised = preview(run, below, ALL, Settings())
    done = remediate(run, below, ALL, Settings(), "remediate")
    assert done == promised
    assert done.plan == promised.plan
    assert [type(effect) for effect in done.effects if not isinstance(effect, Edit)] == [
        PackageEdit,
        RebuildRequest,
        RebuildRequest,
    ]
    assert [effect.path for effect in done.effects if isinstance(effect, Edit)] == [
        "/etc/hosts",
        "/etc/hosts",
        "/etc/initramfs-tools",
        "/etc/initramfs-tools/modules",
    ]
    assert preview(run, below, ALL[:1] + ALL[3:], Settings()).effects == ()
    assert below.load("/etc/hosts") == File(b"127.0.0.1 localhost\n::1\n")
    assert "agent" in below.packages


def test_a_later_step_sees_what_an_earlier_one_would_have_done(run: Run) -> None:
    effects = preview(run, guest(), ALL, Settings()).effects
    line = next(effect for effect in effects if effect.by == "add-line")
    assert isinstance(line, Edit)
    assert line.before == File(b"127.0.0.1 localhost\n")


def test_a_skipped_remediation_is_left_out(run: Run) -> None:
    changes = preview(run, guest(), ALL, Settings(skip=frozenset({"install-agent", "rebuild-twice", "set-hosts"})))
    assert [effect.by for effect in changes.effects] == ["add-line"]


@remediation("warn", "Warn")
def warn(draft: Draft, settings: Settings) -> None:
    """Something is told."""
    draft.find("NET-007", "a file names the old address", remedy="Change it.")
    draft.find("GUEST-012", "a 32-bit system", severity=Severity.ERROR)
    draft.find("FW-003", "fail2ban stays", severity=Severity.NOTE)


def reasons(run: Run, *waive: str, strict: bool = False) -> list[Reason]:
    changes = preview(run, guest(), (warn,), Settings(waive=frozenset(waive)))
    assert remediate(run, guest(), (warn,), Settings(waive=frozenset(waive)), "x").findings == changes.findings
    return refusals(changes.findings, strict=strict)


def test_an_error_forbids_and_a_warning_only_where_the_user_is_strict(run: Run) -> None:
    error = Reason("GUEST-012", "a 32-bit system")
    assert reasons(run) == [error]
    warning = Reason("NET-007", "a file names the old address", "Change it. Or accept it: --waive NET-007")
    assert reasons(run, strict=True) == [warning, error]


def test_what_is_waived_is_told_and_forbids_nothing(run: Run) -> None:
    assert reasons(run, "GUEST-012") == []
    assert reasons(run, "GUEST-012", "NET-007", strict=True) == []
    findings = preview(run, guest(), (warn,), Settings(waive=frozenset({"NET-007"}))).findings
    assert [(finding.code, finding.waived) for finding in findings] == [
        ("NET-007", True),
        ("GUEST-012", False),
        ("FW-003", False),
    ]


@remediation("only-templates", "Clean", profiles=GOLDEN_ONLY)
def only_templates(draft: Draft, settings: Settings) -> None:
    """The log is gone."""
    draft.remove("/etc/hosts", why="tells of the past")


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        (Settings(), False),
        (Settings(profile=Profile.GOLDEN_IMAGE), True),
        (Settings(ask=frozenset({"only-templates"})), True),
        (Settings(profile=Profile.GOLDEN_IMAGE, skip=frozenset({"only-templates"})), False),
    ],
)
def test_a_profile_chooses_and_a_name_decides(run: Run, settings: Settings, made: bool) -> None:
    assert bool(preview(run, guest(), (only_templates,), settings).effects) is made


@remediation("break", "Break")
def break_(draft: Draft, settings: Settings) -> None:
    """A folder is written as if it were a file."""
    draft.write("/etc", "x", why="cannot be")


def test_what_cannot_be_made_is_an_error_and_the_next_one_is_asked_all_the_same(run: Run) -> None:
    changes = preview(run, guest(), (break_, add_line, break_), Settings())
    (finding,) = changes.findings
    assert (finding.code, finding.by, finding.severity) == ("GUEST-018", "break", Severity.ERROR)
    assert (
        finding.text
        == "break cannot be made: Debian GNU/Linux 12 (bookworm): /etc is not a file, so it cannot be written"
    )
    assert finding.remedy == "Mend it in the source VM, or leave the repair out: --skip break"
    assert [effect.by for effect in changes.effects] == ["add-line"]


def test_the_plan_changes_with_the_content(run: Run) -> None:
    one = preview(run, MemoryGuest({"/etc/hosts": File(b"a\n")}), (add_line,), Settings())
    two = preview(run, MemoryGuest({"/etc/hosts": File(b"b\n")}), (add_line,), Settings())
    assert one.plan == preview(run, MemoryGuest({"/etc/hosts": File(b"a\n")}), (add_line,), Settings()).plan
    assert one.plan != two.plan

"""Preview and apply are the same remediations: what one says, the other does."""

from migrate.draft import Draft
from migrate.effects import Edit, PackageEdit, RebuildRequest
from migrate.guest import File, Package, Rebuild
from migrate.guests.memory import Held, Kernel, MemoryGuest
from migrate.remediate import preview, remediate
from migrate.remediation import Remediation, Settings, remediation
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


def test_the_plan_changes_with_the_content(run: Run) -> None:
    one = preview(run, MemoryGuest({"/etc/hosts": File(b"a\n")}), (add_line,), Settings())
    two = preview(run, MemoryGuest({"/etc/hosts": File(b"b\n")}), (add_line,), Settings())
    assert one.plan == preview(run, MemoryGuest({"/etc/hosts": File(b"a\n")}), (add_line,), Settings()).plan
    assert one.plan != two.plan

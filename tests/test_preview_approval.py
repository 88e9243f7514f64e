"""What was approved is done, or nothing is; and what has changed since is said in words."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from migrate import preview as previews
from migrate.effects import Edit, Effect, Finding, PackageEdit, Severity
from migrate.errors import UsageError
from migrate.guest import File, Package, PackageChange
from migrate.preview import Approval, Preview, approval, changes_value
from tests.preview_guests import ordinary, preview, secret


def approved(folder: Path, given: Preview) -> Approval:
    file = folder / "preview.json"
    file.write_text(json.dumps(previews.to_json(given)))
    return approval(str(file))


def with_effects(given: Preview, effects: Sequence[Effect]) -> Preview:
    return replace(given, changes=replace(given.changes, effects=tuple(effects)))


def differences(folder: Path, old: Preview, new: Preview) -> tuple[str, ...]:
    now = changes_value(new.changes)
    read = approved(folder, old)
    assert not read.holds(now)
    return read.differences(now)


def test_a_plan_is_approved_by_its_first_digits_or_all_of_them(tmp_path: Path) -> None:
    now = changes_value(ordinary().changes)
    for words in (now.plan, now.digest[:20], now.digest):
        assert approval(words).holds(now)
    assert approved(tmp_path, ordinary()).holds(now)
    assert not approval("7f3a91c4").holds(now)
    assert approval("7f3a91c4").differences(now) == ()


def test_what_has_come_and_what_has_gone_is_told(tmp_path: Path) -> None:
    old = ordinary()
    effects = list(old.changes.effects)
    more = Edit("files", "is new", "/etc/more", None, File(b"x\n"))
    assert differences(tmp_path, old, with_effects(old, [*effects, more])) == ("new: write /etc/more (files)",)
    gone = [effect for effect in effects if not isinstance(effect, Edit)]
    assert differences(tmp_path, old, with_effects(old, gone)) == (
        "no longer: write /etc/hosts (files)",
        "no longer: write /etc/agent (files)",
        "no longer: write /etc/agent/new.conf (files)",
        "no longer: write /etc/systemd/system/agent.service (files)",
        "no longer: write /usr/local/bin/agent (files)",
    )


def test_another_version_of_a_package_is_told(tmp_path: Path) -> None:
    old = preview(
        PackageEdit("install", "is needed", PackageChange((Package("a", "1"), Package("b", "1")), (), "Debian"))
    )
    new = preview(
        PackageEdit("install", "is needed", PackageChange((Package("a", "2"), Package("c", "1")), (), "a mirror"))
    )
    assert differences(tmp_path, old, new) == (
        "install a: version 2, not 1",
        "new: install c 1",
        "no longer: install b 1",
        "packages come from a mirror, not from Debian",
    )


def test_a_guest_that_was_changed_meanwhile_is_told(tmp_path: Path) -> None:
    old = preview(Edit("files", "is old", "/etc/a", File(b"one\n"), File(b"two\n")))
    lived_on = preview(Edit("files", "is old", "/etc/a", File(b"one more\n"), File(b"two\n")))
    assert differences(tmp_path, old, lived_on) == ("write /etc/a: what the guest has there is not what it was",)
    other = preview(Edit("files", "is old", "/etc/a", File(b"one\n"), File(b"six\n")))
    assert differences(tmp_path, old, other) == ("write /etc/a: another change than the one that was shown (files)",)


def test_that_only_a_secret_differs_is_said_without_it(tmp_path: Path) -> None:
    old = secret()
    first, *rest = old.changes.effects
    assert isinstance(first, Edit)
    new = with_effects(old, [replace(first, after=File(b"root:other\n", 0o600)), *rest])
    assert differences(tmp_path, old, new) == (
        "what is shown is the same: the content of a file that is kept secret differs",
    )


def test_a_finding_that_was_not_there_is_told_with_the_rest(tmp_path: Path) -> None:
    old = ordinary()
    more = Finding("files", "NET-009", Severity.WARNING, "something else names 10.0.0.1")
    changes = replace(old.changes, effects=old.changes.effects[:-1], findings=(*old.changes.findings, more))
    assert differences(tmp_path, old, replace(old, changes=changes)) == (
        "no longer: rebuild the initramfs (disk)",
        "found since: NET-009 something else names 10.0.0.1",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "neither a plan, which is 8 to 64 hexadecimal digits, nor a file"),
        ("", "no preview"),
        ("{}", "no preview"),
        ("[1]", "no preview"),
        ('{"schema": "magalu-migrate/preview/9"}', "no preview"),
        ("\xff", "no preview"),
    ],
)
def test_what_is_neither_a_plan_nor_a_preview_is_wrong_usage(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "preview.json"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        approval(str(file))
    assert said in caught.value.message


def test_what_cannot_go_cannot_be_approved(tmp_path: Path) -> None:
    refused = preview(findings=(Finding("disk", "DISK-008", Severity.ERROR, "the root is elsewhere"),))
    with pytest.raises(UsageError, match="cannot go, so there is nothing to approve"):
        approved(tmp_path, refused)

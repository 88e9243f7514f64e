"""The law of all remediations, on every guest that we have: a preview writes nothing, apply does exactly what the preview said, and a
second apply does nothing."""

from functools import cache
from pathlib import Path

import pytest

from fixtures.guests import guest, names
from migrate.codes import register
from migrate.effects import Changes
from migrate.errors import GuestError
from migrate.guests.memory import MemoryGuest
from migrate.remediate import preview, remediate
from migrate.remediation import Profile, Remediation, Settings
from migrate.run import Run
from remediations import BUILTIN


def held(guest: MemoryGuest) -> tuple[object, ...]:
    return guest.tree, guest.packages, guest.layout


def law(run: Run, guest: MemoryGuest, remediations: tuple[Remediation, ...], settings: Settings) -> None:
    before = held(guest)
    said = preview(run, guest, remediations, settings)
    assert held(guest) == before, "the preview wrote something"
    if any(finding.code == GuestError.code for finding in said.findings):
        with pytest.raises(GuestError):  # what cannot be made was told, and is not made by halves: the overlay goes
            remediate(run, guest, remediations, settings, "remediate")
        return
    done = remediate(run, guest, remediations, settings, "remediate")
    assert done.effects == said.effects
    assert set(done.findings) == set(said.findings)
    if done.effects:
        assert remediate(run, guest, remediations, settings, "remediate").effects == ()


@cache
def previewed(name: str) -> Changes:
    return preview(Run(Path("/nowhere")), guest(name), BUILTIN, Settings())


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(Settings(), id="default"),
        pytest.param(
            Settings(force_datasource="OpenStack", reset_machine_id=False), id="forced", marks=pytest.mark.slow
        ),
        pytest.param(Settings(profile=Profile.GOLDEN_IMAGE), id="golden", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", names())
def test_all_together_keep_the_law(run: Run, name: str, settings: Settings) -> None:
    law(run, guest(name), BUILTIN, settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_each_alone_keeps_the_law(run: Run, name: str) -> None:
    for remediation in BUILTIN:
        try:
            law(run, guest(name), (remediation,), Settings(ask=frozenset({remediation.name})))
        except AssertionError as error:
            raise AssertionError(f"{remediation.name}: {error}") from error


def test_names_are_kebab_case_and_each_is_there_once() -> None:
    found = [remediation.name for remediation in BUILTIN]
    assert len(found) == len(set(found))
    assert all(name == name.lower() and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in found)


def test_every_remediation_says_what_it_is_for_and_where_that_is_known_from() -> None:
    for remediation in BUILTIN:
        assert remediation.sources and remediation.about.endswith(".") and remediation.title[0].isupper()


def test_every_reason_completes_because_it() -> None:
    for name in names():
        for effect in previewed(name).effects:
            first = effect.why.split()[0]
            assert first.endswith("s"), effect.why


def test_every_finding_is_in_the_register_with_its_severity_and_who_gives_it() -> None:
    codes = register()
    for name in names():
        for finding in previewed(name).findings:
            code = codes[finding.code]
            if finding.code == GuestError.code:  # any remediation may give it
                continue
            assert (code.severity, finding.by in code.by) == (finding.severity, True), finding

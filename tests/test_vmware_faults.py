"""What goes wrong on the way to vSphere: it is tried again within a budget, told, taken up where it was, or named."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.emulators.authority import Authority
from fixtures.emulators.vcsim import PASSWORD, USER, Vcsim
from migrate.errors import SourceBusy, SourceError, Stopped
from migrate.run import Event, Note, Run
from tests import file_samples as samples
from tests.cloud import Notebook, Told, known_from, silent
from tests.vsphere import NOISE, QUICK, VM, opened, read, server, token

pytestmark = pytest.mark.slow

CONTENT = samples.disk_bytes()
FOLDER, EXPORT = "/folder/", "/nfcexport/"


@pytest.fixture
def vc() -> Iterator[Vcsim]:
    with server() as started:
        started.give(VM, [CONTENT])
        yield started


def when(words: str, act: Callable[[], None]) -> Callable[[Event], None]:
    """A listener that acts once, when it hears these words."""
    heard: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note) and words in event.text and not heard:
            heard.append(event.text)
            act()

    return listen


# The session


def test_a_wrong_password_is_told_at_once_and_not_shown(run: Run, vc: Vcsim) -> None:
    wrong = {"GOVC_PASSWORD": "planted-wrong-password"}
    with (
        opened(run, vc, environ=wrong) as source,
        pytest.raises(SourceError, match="user or password is wrong") as refused,
    ):
        next(source.vms())
    assert f"as {USER}" in str(refused.value)
    assert "planted-wrong-password" not in known_from(refused.value)
    assert vc.state().calls["Login"] == 1


def test_a_session_that_expires_is_renewed_while_a_disk_is_read(run: Run, vc: Vcsim) -> None:
    run.listener = told = Told()
    with opened(run, vc, transport="datastore") as source:
        taken = token(source)
        with source.frozen(taken) as (disk,), disk.nbd() as uri:
            vc.end_sessions()
            assert samples.served(uri) == CONTENT
        vc.end_sessions()
        source.release(taken)
    assert told.text.count("the session had expired; logged in again") == 2
    assert vc.state().snapshots == ()


def test_a_server_that_fails_now_and_then_is_asked_again_and_that_is_told(run: Run, vc: Vcsim) -> None:
    run.listener = told = Told()
    with opened(run, vc) as source:
        vc.fault("503", "/sdk", times=2)
        (ref,) = source.vms()
        assert source.describe(ref).name == VM
    assert told.text.count("trying again") == 2 and "503" in told.text


def test_an_answer_that_is_lost_makes_no_second_snapshot(run: Run, vc: Vcsim) -> None:
    with opened(run, vc) as source:
        (ref,) = source.vms()
        vm = source.describe(ref)
        session = source._opened()
        plain = session.call

        def cut(asked: str, function: Callable[[], object], **words: bool) -> object:
            if asked.startswith("make a snapshot") and not words.get("again", True):
                vc.fault("reset", "/sdk")
            return plain(asked, function, **words)

        session.call = cut  # type: ignore[method-assign, assignment]
        taken = source.freeze(vm, "web")
        assert vc.state().snapshots == (f"{VM}/magalu-migrate web",)
        source.release(taken)


# Trust


def test_a_certificate_that_nobody_vouches_for_is_refused_even_on_loopback(run: Run, vc: Vcsim) -> None:
    with pytest.raises(SourceError, match="cannot reach") as refused, opened(run, vc, ca=None) as source:
        next(source.vms())
    hint = refused.value.hint or ""
    assert "--ca FILE" in hint and f"--thumbprint {vc.thumbprint.replace(':', '')}" in hint
    assert vc.state().calls.get("Login", 0) == 0


def test_another_authority_is_not_the_one(run: Run, vc: Vcsim, tmp_path: Path) -> None:
    other = Authority.made(tmp_path, "127.0.0.1")
    with pytest.raises(SourceError, match="cannot reach"), opened(run, vc, ca=other.ca) as source:
        next(source.vms())
    assert vc.state().calls.get("Login", 0) == 0


@pytest.mark.parametrize("transport", ["datastore", "nfc"])
def test_a_pinned_certificate_needs_no_authority(run: Run, vc: Vcsim, transport: str) -> None:
    with opened(run, vc, ca=None, thumbprint=vc.thumbprint, transport=transport) as source:
        taken = token(source)
        assert read(source, taken) == [CONTENT]
        source.release(taken)


def test_a_wrong_thumbprint_is_refused_before_anything_is_sent(run: Run, vc: Vcsim) -> None:
    with (
        pytest.raises(SourceError, match="shows another certificate") as refused,
        opened(run, vc, thumbprint="ab" * 32) as source,
    ):
        next(source.vms())
    assert "Nothing was sent" in (refused.value.hint or "")
    assert vc.state().calls == {}


def test_a_server_that_never_answers_is_given_up(run: Run, vc: Vcsim) -> None:
    from dataclasses import replace

    with silent() as url:
        nobody = replace(vc, host=url.removeprefix("http://"))
        impatient = replace(QUICK, timeout=0.2)
        with pytest.raises(SourceBusy, match="cannot reach"), opened(run, nobody, pace=impatient) as source:
            next(source.vms())


# Ranges of the datastore


@pytest.mark.parametrize("kind", ["503", "429", "reset", "short"])
def test_a_range_that_breaks_is_read_again(run: Run, vc: Vcsim, kind: str) -> None:
    run.listener = told = Told()
    with opened(run, vc, transport="datastore") as source:
        taken = token(source)
        vc.fault(kind, FOLDER, times=2, after=1000)
        assert read(source, taken) == [CONTENT]
        source.release(taken)
    assert told.text.count("trying again in") == 2


def test_a_budget_that_is_used_up_ends_in_words_and_can_be_taken_up_again(run: Run, vc: Vcsim) -> None:
    with opened(run, vc, transport="datastore") as source:
        taken = token(source)
        vc.fault("500", FOLDER, times=3)
        with (
            pytest.raises(SourceBusy, match=r'disk "Hard disk 1", .* the server answered 500'),
            source.frozen(taken) as (disk,),
        ):
            disk.ways._flat(disk.disk).read(0, 65536)  # type: ignore[attr-defined]
        assert read(source, taken) == [CONTENT]
        source.release(taken)


def test_a_datastore_without_the_file_is_passed_over(run: Run, vc: Vcsim) -> None:
    run.listener = told = Told()
    vc.fault("404", FOLDER, times=1)
    with opened(run, vc) as source:
        taken = token(source)
        assert read(source, taken) == [CONTENT]
        source.release(taken)
    assert "has no such flat file" in told.text and "export lease" in told.text


# Leases


@pytest.mark.parametrize("kind", ["503", "reset", "short"])
def test_a_stream_that_breaks_goes_on_where_it_was(run: Run, vc: Vcsim, kind: str) -> None:
    run.listener = told = Told()
    vc.give(VM, [NOISE])
    with opened(run, vc, transport="nfc") as source:
        taken = token(source)
        vc.fault(kind, EXPORT, times=1, after=200_000)
        assert read(source, taken) == [NOISE]
        source.release(taken)
    assert "trying again in" in told.text
    whole = (vc._disks / VM / "disk-0.vmdk").stat().st_size
    assert vc.state().bytes < whole or kind == "503"  # what the break let through is not counted, and not sent again
    assert vc.state().calls["ExportSnapshot"] == 1


def test_a_host_without_ranges_streams_from_the_beginning_again(run: Run) -> None:
    with server(nfc_ranges=False) as vc:
        vc.give(VM, [NOISE])
        with opened(run, vc, transport="nfc") as source:
            taken = token(source)
            vc.fault("short", EXPORT, times=1, after=200_000)
            assert read(source, taken) == [NOISE]
            source.release(taken)


def test_a_lease_is_kept_alive_for_longer_than_its_time(run: Run) -> None:
    with server(lease_timeout=1, nfc_rate=1_200_000) as vc:
        vc.give(VM, [NOISE])
        with opened(run, vc, transport="nfc") as source:
            taken = token(source)
            assert read(source, taken) == [NOISE]
            source.release(taken)
        calls = vc.state().calls
    assert calls["HttpNfcLeaseProgress"] >= 3 and calls["ExportSnapshot"] == 1


@pytest.mark.parametrize("ends", ["leases", "sessions"])
def test_a_lease_that_dies_is_made_anew(run: Run, vc: Vcsim, ends: str) -> None:
    vc.give(VM, [NOISE])
    with opened(run, vc, transport="nfc") as source:
        taken = token(source)
        vc.fault("short", EXPORT, times=1, after=200_000)
        run.listener = when("trying again in", vc.end_leases if ends == "leases" else vc.end_sessions)
        assert read(source, taken) == [NOISE]
        source.release(taken)
    state = vc.state()
    # A lease may outlive its session for the moment that the next try takes.
    assert state.calls["ExportSnapshot"] in ((2,) if ends == "leases" else (1, 2))
    assert (state.snapshots, state.leases, state.sessions) == ((), 0, 0)


def test_a_privilege_that_is_missing_when_it_is_used_is_named(run: Run, vc: Vcsim) -> None:
    with opened(run, vc, transport="nfc") as source:
        taken = token(source)
        vc.deny("VApp.Export")
        with pytest.raises(SourceError, match=r"the privilege VApp\.Export is missing"):
            read(source, taken)
        vc.deny()
        source.release(taken)


def test_a_stop_in_a_transfer_ends_the_lease_and_release_still_works(run: Run) -> None:
    with server(nfc_rate=500_000) as vc:
        vc.give(VM, [NOISE])
        notes = Notebook()
        with opened(run, vc, ledger=notes, transport="nfc") as source:
            taken = token(source)
            run.listener = when("is fetched whole", run.stop.set)
            with pytest.raises(Stopped):
                read(source, taken)
            assert vc.state().leases == 0
            source.release(taken)
        state = vc.state()
    assert (state.snapshots, state.sessions) == ((), 0)
    assert PASSWORD not in repr(notes.lines)

import time
from pathlib import Path
from threading import Timer

import pytest

from adapters.magalu.images import Images
from adapters.magalu.imports import MARKER, Patience, marked
from migrate.errors import Stopped, TargetBusy, TargetError
from migrate.run import Note, Progress, Run
from tests.cloud import IMPATIENT, SHA256, SIGNATURE, Cloud, Notebook, Told, api, cloud, importer, known_from

OTHER = "00" * 32


def active_image(run: Run, there: Cloud, name: str = "web01", sha256: str = SHA256) -> str:
    with importer(run, there) as opened:
        return opened.imported(name, sha256, lambda: there.order(name, sha256=sha256)).id


def test_an_import_ends_active_and_is_written_down_before_and_with_its_id(run: Run, tmp_path: Path) -> None:
    ledger = Notebook()
    with cloud(tmp_path) as there, importer(run, there, ledger=ledger) as opened:
        image = opened.imported("web01", SHA256, there.order)
        stored = (tmp_path / "images" / f"{image.id}.qcow2").read_bytes()
        assert stored == (there.files / "good.qcow2").read_bytes()
    assert (image.name, image.status, image.description) == ("web01", "active", f"a test {MARKER}{SHA256}")
    assert ledger.lines == [
        ("will make", "image", {"name": "web01"}),
        ("will make", "image", {"name": "web01", "id": image.id}),
    ]


def test_a_second_import_finds_the_image_of_the_first(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there:
        first = active_image(run, there)
        assert active_image(run, there) == first
        assert there.creates == 1


def test_an_image_of_another_file_keeps_its_name(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there:
        first = active_image(run, there, sha256=OTHER)
        with pytest.raises(TargetError) as caught:
            active_image(run, there)
        assert f'the name "web01" is taken: image {first}, active, described as "a test {MARKER}{OTHER}".' in str(
            caught.value
        )
        assert "--name" in str(caught.value)
        assert there.creates == 1


@pytest.mark.parametrize(
    "status",
    [
        "importing_error",
        "invalid_image",
        "error",
        "deleting",
        "deleting_error",
        "deleted",
        "deprecated",
        "conversion_failed",
    ],
)
def test_each_failing_status_is_told_with_the_ids_that_support_asks_for(run: Run, tmp_path: Path, status: str) -> None:
    with cloud(tmp_path) as there, importer(run, there) as opened:
        there.faults.status = status
        with pytest.raises(TargetError) as caught:
            opened.imported("web01", SHA256, there.order)
        answer = there.exchanges[-1].reply
        id_ = there.exchanges[-1].request.path.rpartition("/")[2]
    assert f'image "web01" ({id_}) ended as {status}' in caught.value.message
    assert (
        f"(request {answer.headers['X-Request-Id']}, trace {answer.headers['X-Mgc-Trace-Id']})" in caught.value.message
    )


@pytest.mark.parametrize("status", ["pending", "creating", "importing", "warming_up"])
def test_a_status_that_is_no_end_is_waited_on_until_the_deadline(tmp_path: Path, status: str) -> None:
    told = Told()
    patience = Patience(poll=0.01, deadline=0.2)
    with cloud(tmp_path) as there, importer(Run(tmp_path, told), there, patience=patience) as opened:
        there.faults.status = status
        with pytest.raises(TargetBusy, match=f"its status: {status}") as caught:
            opened.imported("web01", SHA256, there.order)
    assert "Run the same command again" in str(caught.value)
    assert sum(isinstance(event, Note) for event in told.events) == (1 if status == "warming_up" else 0)
    assert any(isinstance(event, Progress) and event.what == status for event in told.events)


def test_an_image_that_is_not_seen_right_after_its_order_is_waited_for(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, importer(run, there, patience=Patience(poll=0.02, deadline=10, grace=10)) as opened:
        there.faults.unseen = 3
        assert opened.imported("web01", SHA256, there.order).status == "active"


def test_an_image_that_is_never_seen_is_not_waited_for_until_the_deadline(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, importer(run, there) as opened:
        there.faults.unseen = 10**6
        with pytest.raises(TargetError, match="knows no image of this id"):
            opened.imported("web01", SHA256, there.order)


def test_a_broken_api_does_not_end_the_waiting(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, importer(run, there) as opened:
        there.faults.import_s = 0.3
        Timer(0.1, lambda: setattr(there.faults, "broken", 5)).start()
        assert opened.imported("web01", SHA256, there.order).status == "active"
        assert there.faults.broken == 0


def test_a_500_that_reserved_the_name_is_not_posted_again_and_says_what_to_do(tmp_path: Path) -> None:
    ledger, told = Notebook(), Told()
    with cloud(tmp_path) as there, importer(Run(tmp_path, told), there, ledger=ledger) as opened:
        there.faults.creates_break = 1
        with pytest.raises(TargetBusy, match="answered 500") as caught:
            opened.imported("web01", SHA256, there.order)
        assert there.creates == 1
        assert "The order may have been taken" in str(caught.value)
        assert there.exchanges[2].reply.headers["X-Request-Id"] in str(caught.value)
        looks = [e.request.path for e in there.exchanges[3:]]
        assert {path.rpartition("/v1/")[2] for path in looks} == {"images/custom", "images"}
        assert len(looks) > 4
        with pytest.raises(TargetError, match=r"answered 409.*already exists") as second:
            opened.imported("web01", SHA256, there.order)
        assert "choose another with --name" in str(second.value)
    assert ("gone", "image", {"name": "web01"}) not in ledger.lines


def test_an_answer_that_was_lost_does_not_order_twice(run: Run, tmp_path: Path) -> None:
    patience = Patience(poll=0.02, deadline=10, lookup=10)
    with cloud(tmp_path) as there, importer(run, there, patience=patience) as opened:
        there.faults.creates_fall_silent = 1
        image = opened.imported("web01", SHA256, there.order)
        assert (image.status, there.creates) == ("active", 1)


def test_a_conflict_with_an_import_of_ours_that_goes_on_is_waited_out(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there:
        there.faults.import_s = 0.4
        with importer(run, there, patience=Patience(poll=0.02, deadline=0.05)) as first, pytest.raises(TargetBusy):
            first.imported("web01", SHA256, there.order)
        with importer(run, there, patience=Patience(poll=0.02, deadline=5, lookup=5)) as second:
            assert second.imported("web01", SHA256, there.order).status == "active"
        assert [e.reply.status for e in there.exchanges if e.request.method == "POST"] == [202, 409]


def test_an_import_that_an_earlier_run_ordered_is_waited_for_by_its_id(run: Run, tmp_path: Path) -> None:
    ledger = Notebook()
    with cloud(tmp_path) as there:
        there.faults.import_s = 0.3
        quick = Patience(poll=0.02, deadline=0.05)
        with importer(run, there, patience=quick, ledger=ledger) as first, pytest.raises(TargetBusy):
            first.imported("web01", SHA256, there.order)
        begun = {names["name"]: names["id"] for _, _, names in ledger.lines if "id" in names}
        with importer(run, there, begun=begun) as second:
            assert second.imported("web01", SHA256, there.order).id == begun["web01"]
        assert there.creates == 1


def test_a_failed_image_of_an_earlier_run_makes_room_for_the_next(run: Run, tmp_path: Path) -> None:
    ledger = Notebook()
    with cloud(tmp_path) as there, importer(run, there, ledger=ledger) as opened:
        there.faults.import_fails = True
        with pytest.raises(TargetError, match="importing_error"):
            opened.imported("web01", SHA256, there.order)
        failed = ledger.lines[-1][2]["id"]
        there.faults.import_fails = False
        image = opened.imported("web01", SHA256, there.order)
        assert image.status == "active"
        assert image.id != failed
    assert ("gone", "image", {"name": "web01", "id": failed}) in ledger.lines


def test_an_order_that_is_refused_is_not_left_in_the_ledger(run: Run, tmp_path: Path) -> None:
    ledger = Notebook()
    with cloud(tmp_path) as there, importer(run, there, ledger=ledger) as opened:
        with pytest.raises(TargetError, match="Invalid characters in name") as caught:
            opened.imported("web 01", SHA256, lambda: there.order("web 01"))
        assert caught.value.status == 400
    assert ledger.lines == [("will make", "image", {"name": "web 01"}), ("gone", "image", {"name": "web 01"})]


def test_a_request_that_does_not_validate_is_told_field_by_field(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, importer(run, there) as opened:
        (there.files / "elsewhere").touch()
        order = there.order()
        foreign = type(order)(
            order.name,
            type(order.url)(f"http://127.0.0.1:1/?X-Amz-Signature={SIGNATURE}"),
            False,
            order.requirements,
            "d",
        )
        with pytest.raises(TargetError, match=r"answered 422: body\.url: URL of object storage required") as caught:
            opened.imported("web01", SHA256, lambda: foreign)
    assert SIGNATURE not in str(caught.value)


def test_a_file_that_is_no_qcow2_ends_as_invalid_image(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, importer(run, there) as opened:
        (there.files / "bad.qcow2").write_bytes(b"QFI\xfb" + bytes(1000))
        with pytest.raises(TargetError, match="invalid_image"):
            opened.imported("web01", SHA256, lambda: there.order(file="bad.qcow2"))


def test_a_stop_ends_the_waiting_at_once(run: Run, tmp_path: Path) -> None:
    patience = Patience(poll=30, deadline=60)
    with cloud(tmp_path) as there, importer(run, there, patience=patience) as opened:
        there.faults.import_s = 20
        Timer(0.2, run.stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            opened.imported("web01", SHA256, there.order)
        assert time.monotonic() - began < 5


def test_an_image_on_a_later_page_is_found_by_its_exact_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.magalu.images.PAGE", 2)
    with cloud(tmp_path) as there, api(run, there.region) as opened:
        for number in range(3):
            active_image(run, there, f"web0{number}")
        there.faults.unfiltered = True
        assert [image.name for image in Images(opened).named("web02")] == ["web02"]
        assert Images(opened).named("web0") == ()


@pytest.mark.parametrize("text", ["", "erp01 from VMware", "x" * 500, "linea\nnova\x1b[2J"])
def test_a_description_fits_and_keeps_our_mark(text: str) -> None:
    description = marked(text, SHA256)
    assert 1 <= len(description) <= 200
    assert description.endswith(f"{MARKER}{SHA256}")
    assert "\n" not in description
    assert "\x1b" not in description


def test_no_word_of_the_url_leaves_an_import(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    told = Told()
    with cloud(tmp_path) as there, importer(Run(tmp_path, told), there, patience=IMPATIENT) as opened:
        there.faults.creates_break = 1
        with pytest.raises(TargetBusy) as caught:
            opened.imported("web01", SHA256, there.order)
        assert SIGNATURE in there.exchanges[2].request.body.decode()
    assert SIGNATURE not in known_from(caught.value) + caplog.text + told.text
    assert SIGNATURE not in repr(there.exchanges)
    assert not any(SIGNATURE.encode() in path.read_bytes() for path in (tmp_path / "images").iterdir())

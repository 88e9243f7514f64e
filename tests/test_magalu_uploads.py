import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest

from adapters.magalu import region
from adapters.magalu.credentials import Credentials
from adapters.magalu.storage import Storage, Stored, default_bucket
from adapters.magalu.uploads import MIB, MIN_PART, PartedUpload
from adapters.sandbox import Sandbox
from migrate.errors import Stopped, TargetBusy, TargetError
from migrate.run import Note, Run
from migrate.secret import Secret
from migrate.target import ObjectRef
from tests.cloud import KEY_ID, KEY_SECRET, Notebook, Observer, Told, box_credentials, credentials, known_from, observed

BUCKET = "uploads-of-the-tests"
PART = MIN_PART
MARK = "mark-of-the-tests"


def noise(path: Path, size: int, seed: int = 1) -> Path:
    """A file of bytes that do not compress, the same at each call."""
    path.write_bytes(b"QFI\xfb" + Random(seed).randbytes(size - 4))  # noqa: S311
    return path


@contextmanager
def storage(
    run: Run, box: Sandbox, *, url: str | None = None, keys: Credentials | None = None, ledger: Notebook | None = None
) -> Iterator[Storage]:
    where = region("br-se1", api_url=box.api_url, s3_url=url or box.s3_url)
    opened = Storage(run, where, keys or box_credentials(box), ledger or Notebook())
    try:
        yield opened
    finally:
        opened.close()


def begun(run: Run, opened: Storage, key: str) -> PartedUpload:
    opened.ensure_bucket(BUCKET)
    return PartedUpload(run, opened, BUCKET, key, MARK, opened.begin_upload(BUCKET, key, MARK), PART)


def parts_of(path: Path) -> list[bytes]:
    whole = path.read_bytes()
    return [whole[at : at + PART] for at in range(0, len(whole), PART)]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def upload(run: Run, box: Sandbox, path: Path, key: str, *, url: str | None = None) -> ObjectRef:
    with storage(run, box, url=url) as opened:
        sent = begun(run, opened, key)
        for number, part in enumerate(parts_of(path), 1):
            sent.send(number, part, md5(part))
        return sent.complete([md5(part) for part in parts_of(path)], path.stat().st_size)


def content(run: Run, box: Sandbox, ref: ObjectRef) -> bytes:
    with storage(run, box) as opened:
        return httpx.get(opened.presigned(ref, 60).reveal(), trust_env=False).content


def half_done(box: Sandbox, path: Path, key: str) -> dict[int, str]:
    """Stop an upload of the file as its third part begins; return the parts that arrived, with their ETags."""
    run = Run(path.parent)
    with observed(box.s3_url) as seen:
        seen.stop_at, seen.stop = 3, run.stop.set
        with pytest.raises(Stopped):
            upload(run, box, path, key, url=seen.url)
    return server_parts(box, key)


def server_parts(box: Sandbox, key: str) -> dict[int, str]:
    with storage(Run(Path("/nowhere")), box) as opened:
        return {
            part.number: part.etag for id_ in opened.unfinished(BUCKET, key) for part in opened.parts(BUCKET, key, id_)
        }


def test_the_bucket_has_the_same_name_at_each_run_and_another_for_other_keys() -> None:
    assert default_bucket(credentials()) == default_bucket(credentials(api_key="another"))
    assert default_bucket(credentials()) != default_bucket(replace(credentials(), key_id=Secret("another")))
    assert KEY_ID not in default_bucket(credentials())


@pytest.mark.slow
def test_parts_that_arrive_in_any_order_are_one_object_with_our_mark(run: Run, box: Sandbox, tmp_path: Path) -> None:
    path = noise(tmp_path / "file", 3 * PART + 7)
    parts = parts_of(path)
    with storage(run, box) as opened:
        sent = begun(run, opened, "whole")
        for number in (3, 1, 4, 2):
            sent.send(number, parts[number - 1], md5(parts[number - 1]))
        assert dict(sent.arrived()) == {number: md5(part) for number, part in enumerate(parts, 1)}
        ref = sent.complete([md5(part) for part in parts], path.stat().st_size)
        assert ref == ObjectRef(BUCKET, "whole", 3 * PART + 7, MARK)
        assert opened.stored(BUCKET, "whole") == Stored(ref.bytes, MARK)
        assert opened.unfinished(BUCKET, "whole") == []
        again = sent.complete([md5(part) for part in parts], path.stat().st_size)
    assert again == ref, "the answer to the first completion may have been lost"
    assert content(run, box, ref) == path.read_bytes()


@pytest.mark.slow
def test_an_object_that_is_not_what_was_sent_is_noticed(run: Run, box: Sandbox, tmp_path: Path) -> None:
    path = noise(tmp_path / "file", PART + 7)
    with storage(run, box) as opened:
        sent = begun(run, opened, "other")
        for number, part in enumerate(parts_of(path), 1):
            sent.send(number, part, md5(part))
        with pytest.raises(TargetError, match=r"is not what was sent: .* found: 5242887 bytes"):
            sent.complete([md5(part) for part in parts_of(path)], PART + 8)


@pytest.mark.slow
def test_a_part_that_was_sent_twice_with_other_content_does_not_count_as_arrived(run: Run, box: Sandbox) -> None:
    with storage(run, box) as opened:
        sent = begun(run, opened, "tampered")
        for number, part in ((1, bytes(PART)), (2, bytes(PART)), (2, b"x" * PART)):
            sent.send(number, part, md5(part))
        assert dict(sent.arrived()) in ({1: md5(bytes(PART))}, {1: md5(bytes(PART)), 2: md5(b"x" * PART)})


@pytest.mark.slow
def test_a_line_that_is_cut_once_is_mended(box: Sandbox, tmp_path: Path) -> None:
    path = noise(tmp_path / "file", 3 * PART)
    told = Told()
    run = Run(tmp_path, told)
    with observed(box.s3_url) as seen:
        seen.cut_after = PART + MIB
        ref = upload(run, box, path, "cut", url=seen.url)
        assert seen.cuts == 1
    assert content(run, box, ref) == path.read_bytes()
    assert any(isinstance(event, Note) and "trying again (2 of 5)" in event.text for event in told.events)


@pytest.mark.slow
def test_a_server_that_is_gone_is_said_to_be_gone_and_the_parts_stay(run: Run, box: Sandbox, tmp_path: Path) -> None:
    path = noise(tmp_path / "file", 3 * PART)
    with observed(box.s3_url) as seen:
        seen.dead_after = PART + MIB
        with pytest.raises(TargetBusy, match=r"upload part 2 of .*/gone") as caught:
            upload(run, box, path, "gone", url=seen.url)
    assert "run the same command again" in str(caught.value)
    assert sorted(server_parts(box, "gone")) == [1]


@pytest.mark.slow
def test_a_stop_in_the_middle_of_a_part_is_quick_and_is_not_tried_again(box: Sandbox, tmp_path: Path) -> None:
    told = Told()
    run = Run(tmp_path, told)
    with observed(box.s3_url) as seen, storage(run, box, url=seen.url) as opened:
        sent = begun(run, opened, "stopped")
        seen.pause = 0.02
        threading.Timer(0.5, run.stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            sent.send(1, bytes(30 * MIB), md5(bytes(30 * MIB)))
    assert time.monotonic() - began < 5
    assert server_parts(box, "stopped") == {}
    assert "trying again" not in told.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key_id", "secret", "hint"), [(KEY_ID, KEY_SECRET, "MGC_OBJ_KEY_ID"), (None, KEY_SECRET, "MGC_OBJ_KEY_SECRET")]
)
def test_wrong_keys_are_told_apart_and_not_shown(
    run: Run, box: Sandbox, caplog: pytest.LogCaptureFixture, key_id: str | None, secret: str, hint: str
) -> None:
    keys = replace(box_credentials(box), key_secret=Secret(secret))
    if key_id is not None:
        keys = replace(keys, key_id=Secret(key_id))
    with storage(run, box, keys=keys) as opened, pytest.raises(TargetError) as caught:
        opened.check()
    assert caught.value.status == 403
    assert hint in str(caught.value)
    assert caught.value.request_id is not None
    assert secret not in known_from(caught.value) + caplog.text


@pytest.mark.slow
def test_a_missing_bucket_is_written_down_then_made(run: Run, box: Sandbox) -> None:
    ledger = Notebook()
    with storage(run, box, ledger=ledger) as opened:
        assert not opened.has_bucket("made-by-a-test")
        opened.ensure_bucket("made-by-a-test")
        opened.ensure_bucket("made-by-a-test")
        assert opened.has_bucket("made-by-a-test")
        assert ledger.lines == [("will make", "bucket", {"bucket": "made-by-a-test"})]
        assert opened.delete_bucket("made-by-a-test")
        assert opened.delete_bucket("made-by-a-test")
        assert not opened.has_bucket("made-by-a-test")


@pytest.mark.slow
def test_a_bucket_that_holds_something_is_not_deleted(run: Run, box: Sandbox, tmp_path: Path) -> None:
    ref = upload(run, box, noise(tmp_path / "file", 100), "kept")
    with storage(run, box) as opened:
        assert not opened.delete_bucket(BUCKET)
    assert content(run, box, ref)


@pytest.mark.slow
def test_a_bucket_name_that_cannot_be_is_refused_in_words(run: Run, box: Sandbox) -> None:
    ledger = Notebook()
    with storage(run, box, ledger=ledger) as opened, pytest.raises(TargetError, match="InvalidBucketName") as caught:
        opened.ensure_bucket("ab")
    assert "3 to 63" in str(caught.value)
    assert ledger.lines == [("will make", "bucket", {"bucket": "ab"}), ("gone", "bucket", {"bucket": "ab"})]


@pytest.mark.slow
def test_what_is_made_is_in_the_ledger_before_it_exists(run: Run, box: Sandbox, tmp_path: Path) -> None:
    """The ledger looks into the storage each time it is told something."""
    seen: list[tuple[str, bool, bool]] = []

    class Watching(Notebook):
        def will_make(self, kind: str, **names: str) -> None:
            with storage(run, box) as other:
                there = other.stored(BUCKET, "ledger") is not None
                begun = other.unfinished(BUCKET, "ledger") != []
            seen.append((kind, there, begun))

    with storage(run, box, ledger=Watching()) as opened:
        opened.ensure_bucket(BUCKET)
        begun(run, opened, "ledger")
    assert [line for line in seen if line[0] != "bucket"] == [("upload", False, False), ("object", False, False)]


@pytest.mark.slow
def test_to_discard_takes_this_key_and_no_other_that_begins_alike(run: Run, box: Sandbox, tmp_path: Path) -> None:
    path = noise(tmp_path / "file", 4 * PART)
    half_done(box, path, "thrown")
    half_done(box, path, "thrown-not")
    small = upload(run, box, noise(tmp_path / "small", 100), "thrown/not")
    ledger = Notebook()
    with storage(run, box, ledger=ledger) as opened:
        opened.discard(BUCKET, "thrown")
        opened.discard(BUCKET, "thrown")
        assert opened.unfinished(BUCKET, "thrown") == []
        assert len(opened.unfinished(BUCKET, "thrown-not")) == 1
        opened.discard("no-such-bucket-at-all", "thrown")
    assert content(run, box, small)
    assert ledger.lines[:2] == [
        ("gone", "upload", {"bucket": BUCKET, "key": "thrown"}),
        ("gone", "object", {"bucket": BUCKET, "key": "thrown"}),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (lambda url: url[:-4] + "beef", "answered 403 SignatureDoesNotMatch"),
        (lambda url: url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), "answered 403 SignatureDoesNotMatch"),
        (lambda url: url.replace("/signed?", "/missing?"), "answered 40[34]"),
        (lambda url: "http://127.0.0.1:9/x?X-Amz-Signature=" + url[-20:], "ConnectError"),
    ],
)
def test_a_presigned_url_that_does_not_hold_is_noticed_before_the_import_and_never_shown(
    run: Run, box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[str], str], wanted: str
) -> None:
    ref = upload(run, box, noise(tmp_path / "file", 100), "signed")
    with storage(run, box) as opened:
        good = opened.presigned(ref, 60)
        opened.check_presigned(good, ref)
        bad = spoil(good.reveal())
        with pytest.raises(TargetError, match=wanted) as caught:
            opened.check_presigned(Secret(bad), ref)
    shown = known_from(caught.value) + caplog.text
    assert bad[-20:] not in shown
    assert caught.value.__context__ is None


@pytest.mark.slow
def test_a_presigned_url_ends_with_its_time(run: Run, box: Sandbox, tmp_path: Path) -> None:
    ref = upload(run, box, noise(tmp_path / "file", 100), "expired")
    with storage(run, box) as opened:
        url = opened.presigned(ref, 1)
        time.sleep(2.1)
        with pytest.raises(TargetError, match=r"answered 403 "):
            opened.check_presigned(url, ref)


@pytest.mark.slow
def test_a_presigned_url_of_something_else_is_noticed(run: Run, box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image at all")
    ref = upload(run, box, tmp_path / "text", "text")
    other = upload(run, box, noise(tmp_path / "file", 100), "shorter")
    with storage(run, box) as opened:
        with pytest.raises(TargetError, match=r"begins with 6e 6f 20 69 and has 15 bytes; wanted 51 46 49 fb"):
            opened.check_presigned(opened.presigned(ref, 60), ref)
        with pytest.raises(TargetError, match=r"has 100 bytes; wanted .* and 101 bytes"):
            opened.check_presigned(opened.presigned(other, 60), replace(other, bytes=101))


@pytest.mark.slow
def test_a_plain_client_without_keys_reads_the_whole_object(run: Run, box: Sandbox, tmp_path: Path) -> None:
    path = noise(tmp_path / "file", PART + 5)
    ref = upload(run, box, path, "plain")
    with storage(run, box) as opened:
        url = httpx.URL(opened.presigned(ref, 259200).reveal())
    assert url.params["X-Amz-SignedHeaders"] == "host"
    assert url.params["X-Amz-Expires"] == "259200"
    assert "/br-se1/s3/aws4_request" in url.params["X-Amz-Credential"]
    assert httpx.get(url, trust_env=False).content == path.read_bytes()
    assert httpx.get(url.copy_with(query=None), trust_env=False).status_code == 403


@pytest.mark.slow
def test_nothing_of_this_machines_aws_is_used(
    run: Run, box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = us-east-1\ns3 =\n  addressing_style = virtual\n[broken\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with storage(run, box) as opened:
        opened.check()


def test_the_observer_sees_what_it_is_there_to_see() -> None:
    observer = Observer("")
    tail, _ = observer.see(b"", b"PUT /b/k?uploadId=x&partNum")
    tail, _ = observer.see(tail, b"ber=12&x HTTP/1.1\r\nHost: h\r\n\r\nPUT /b/k?partNumber=3 HTTP/1.1\r\n")
    observer.see(tail, b"GET /b/k?partNumber=4 HTTP/1.1\r\n")
    assert observer.parts == [12, 3]

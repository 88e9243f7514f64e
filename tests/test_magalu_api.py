import time
from pathlib import Path
from threading import Timer

import pytest

from adapters.magalu import Region, region
from adapters.magalu.api import Lost, Pace
from adapters.magalu.images import Images
from migrate.errors import Stopped, TargetBusy, TargetError
from migrate.run import Note, Run
from tests.cloud import (
    API_KEY,
    IMPATIENT,
    PLANTED,
    TOKEN,
    Told,
    always,
    api,
    cloud,
    credentials,
    importer,
    known_from,
    silent,
)


def at(url: str) -> Region:
    return region("br-se1", api_url=url, s3_url=url)


def refused(run: Run, url: str, *, key: str | None = API_KEY, token: str | None = None) -> TargetError:
    with api(run, at(url), credentials(api_key=key, token=token)) as opened, pytest.raises(TargetError) as caught:
        Images(opened).check()
    return caught.value


def test_an_api_key_or_a_token_opens_the_api(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there:
        for keys in (credentials(), credentials(api_key=None, token=TOKEN)):
            with api(run, there.region, keys) as opened:
                Images(opened).check()


def test_wrong_keys_are_said_to_be_wrong_and_are_not_shown(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there:
        error = refused(run, there.api_url, key="planted-wrong-key")
    assert error.status == 401
    assert 'answered 401: "Unauthorized" (unauthorized)' in error.message
    assert "MGC_API_KEY" in str(error) or "id.magalu.com/api-keys" in str(error)
    assert "planted-wrong-key" not in str(error)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"message": "no quota", "slug": "images.quota"}', '"no quota" (images.quota)'),
        (b'{"slug": "images.quota", "message": "no quota", "details": {}}', '"no quota" (images.quota)'),
        (
            b'{"detail": [{"loc": ["body", "name"], "msg": "field required", "type": "missing"}]}',
            "body.name: field required",
        ),
        (b'{"detail": "Not authenticated"}', "Not authenticated"),
        (b"<html><body><h1>Forbidden</h1>\n</body></html>", "Forbidden"),
        (b'["unexpected"]', '["unexpected"]'),
        (b"", "no reason given"),
        (b"\xff\x1b[2J", "\\x1b[2J"),
    ],
)
def test_every_shape_of_an_error_is_told_in_its_own_words(run: Run, body: bytes, wanted: str) -> None:
    ids = {"X-Request-Id": "req-1", "X-Mgc-Trace-Id": "trace-2"}
    with always(400, body, ids) as url:
        error = refused(run, url)
    assert error.message.startswith("list the custom images: Magalu Cloud answered 400: ")
    assert wanted in error.message
    assert error.message.endswith("(request req-1, trace trace-2)")


def test_an_answer_that_is_not_the_apis_is_not_believed(run: Run) -> None:
    with always(200, b"<html>please log in</html>") as url:
        assert "not what its API describes" in refused(run, url).message
    with always(302, b"", {"Location": "http://127.0.0.1:1/"}) as url:
        assert "answered 302" in refused(run, url).message


def test_an_endless_answer_ends(run: Run) -> None:
    with always(400, b"x" * (9 << 20)) as url:
        assert "no reason given" in refused(run, url).message


def test_a_cloud_that_is_broken_for_a_moment_is_asked_again_and_each_time_is_told(tmp_path: Path) -> None:
    told = Told()
    with cloud(tmp_path) as there, api(Run(tmp_path, told), there.region) as opened:
        there.faults.broken = 2
        Images(opened).check()
        assert len(there.exchanges) == 3
        there.faults.broken = 3
        with pytest.raises(TargetBusy, match="answered 502: 502 Bad Gateway"):
            Images(opened).check()
    assert [type(event) for event in told.events] == [Note] * 4


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_throttled_request_waits_as_long_as_it_is_told(run: Run, tmp_path: Path, method: str) -> None:
    with cloud(tmp_path) as there, api(run, there.region) as opened:
        there.faults.throttled, there.faults.retry_after_s = 1, 1
        began = time.monotonic()
        Images(opened).check() if method == "GET" else Images(opened).create(there.order())
        assert time.monotonic() - began >= 1
        assert [e.reply.status for e in there.exchanges] == [429, 200 if method == "GET" else 202]


def test_a_stop_ends_a_pause_at_once(run: Run) -> None:
    with always(503, b"", {"Retry-After": "200"}) as url, api(run, at(url)) as opened:
        timer = Timer(0.1, run.stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            Images(opened).check()
        assert time.monotonic() - began < 5
        timer.join()


def test_a_cloud_that_cannot_be_reached_is_named_without_keys(run: Run) -> None:
    error = refused(run, "http://127.0.0.1:9")
    assert isinstance(error, TargetBusy)
    assert "cannot reach 127.0.0.1" in error.message
    assert not any(secret in str(error) for secret in PLANTED)


def test_a_request_that_was_never_sent_is_known_to_be_unsent(run: Run) -> None:
    with api(run, at("http://127.0.0.1:9")) as opened:
        reply = opened.posted("/v1/images/custom", {})
    assert isinstance(reply, Lost)
    assert not reply.sent


def test_a_silent_cloud_is_left_after_the_time_limit(run: Run) -> None:
    pace = Pace(attempts=1, timeout=0.3)
    with silent() as url, api(run, at(url), pace=pace) as opened:
        began = time.monotonic()
        reply = opened.posted("/v1/images/custom", {})
        assert time.monotonic() - began < 5
    assert isinstance(reply, Lost)
    assert reply.sent


def test_what_the_server_repeats_of_our_secrets_is_blotted_out(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with cloud(tmp_path) as there, importer(run, there, patience=IMPATIENT) as opened:
        there.faults.echo = True
        with pytest.raises(TargetError) as caught:
            opened.imported("web01", "5f" * 32, there.order)
    assert there.files_url not in caught.value.message
    assert '"url":"***"' in caught.value.message.replace(" ", "")
    everything = known_from(caught.value) + caplog.text
    assert not any(secret in everything for secret in PLANTED)
    assert caught.value.__context__ is None

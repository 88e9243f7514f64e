import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from adapters.magalu import MagaluTarget, Settings, magalu_target, region
from adapters.magalu.imports import MARKER, Patience
from adapters.magalu.uploads import MIN_PART
from adapters.sandbox import Sandbox, sandbox
from migrate.errors import Reason, TargetBusy, TargetError, UsageError
from migrate.run import Note, Run
from migrate.source import Firmware
from migrate.target import Image, ObjectRef, Requirements, Target
from tests.cloud import (
    SHA256,
    Notebook,
    Told,
    box_credentials,
    credentials,
    known_from,
    qemu_img,
    s3,
    settings,
    uploaded,
)

NEEDS = Requirements(vcpu=2, ram_gb=4, disk_gb=43)


@contextmanager
def target(run: Run, box: Sandbox, ledger: Notebook, begun: dict[str, str] | None = None) -> Iterator[MagaluTarget]:
    where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
    with magalu_target(run, where, box_credentials(box), ledger, settings(), begun) as opened:
        yield opened


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "raw").write_bytes(b"disk" * (2 << 20))
    qemu_img("convert", "-c", "-O", "qcow2", tmp_path / "raw", tmp_path / "image.qcow2")
    return tmp_path / "image.qcow2"


@pytest.mark.slow
def test_a_file_becomes_an_active_image_and_leaves_nothing_behind(box: Sandbox, image: Path, tmp_path: Path) -> None:
    ledger, told = Notebook(), Told()
    with target(Run(tmp_path, told), box, ledger) as opened:
        assert opened.refuses(name="erp01", size_bytes=image.stat().st_size, firmware=Firmware.UEFI) == []
        stored = uploaded(opened, image, "erp01.qcow2")
        done = opened.import_image(
            stored,
            name="erp01",
            disk_sha256=SHA256,
            firmware=Firmware.UEFI,
            requirements=NEEDS,
            description="erp01 from VMware",
        )
        assert done == Image(done.id, "erp01", "active")
        assert box.image_file(done.id).read_bytes() == image.read_bytes()
        opened.discard(stored)
        opened.discard(stored)
        with pytest.raises(TargetError, match="nothing is there"):
            opened.import_image(
                stored, name="erp01", disk_sha256=SHA256, firmware=Firmware.UEFI, requirements=NEEDS, description=""
            )
    assert [f"{what} {kind}" for what, kind, _ in ledger.lines[1:]] == [
        *("will make upload", "will make object", "will make image", "will make image"),
        *("gone upload", "gone object", "gone upload", "gone object"),
    ]


@pytest.mark.slow
def test_a_second_run_with_the_same_file_finds_object_and_image_and_a_new_file_is_refused(
    box: Sandbox, image: Path, tmp_path: Path
) -> None:
    told = Told()
    found = []
    for _ in range(2):
        with target(Run(tmp_path, told), box, Notebook()) as opened:
            size = image.stat().st_size
            assert opened.refuses(name="erp02", size_bytes=size, firmware=Firmware.BIOS) == []
            stored = uploaded(opened, image, "erp02.qcow2")
            found.append(
                opened.import_image(
                    stored,
                    name="erp02",
                    disk_sha256=SHA256,
                    firmware=Firmware.BIOS,
                    requirements=NEEDS,
                    description="erp02",
                )
            )
            (reason,) = opened.refuses(name="erp02", size_bytes=None, firmware=Firmware.BIOS)
            assert reason.text.startswith(f'the name "erp02" is taken: image {found[0].id}')
    assert found[0] == found[1]
    assert Note("image erp02 of an earlier run is there; it is used if it was made of the same file") in told.events


@pytest.mark.slow
def test_an_object_that_is_not_ours_is_not_imported(run: Run, box: Sandbox, image: Path) -> None:
    with target(run, box, Notebook()) as opened:
        stored = uploaded(opened, image, "erp03.qcow2")
        with pytest.raises(TargetError, match="not the object that this program uploaded"):
            opened.import_image(
                ObjectRef(stored.bucket, stored.key, stored.bytes + 1, stored.mark),
                name="erp03",
                disk_sha256=SHA256,
                firmware=Firmware.BIOS,
                requirements=NEEDS,
                description="",
            )


@pytest.mark.slow
def test_no_secret_is_in_any_word_of_a_whole_run(
    box: Sandbox, image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    keys = box.credentials
    secrets = [s.reveal() for s in (keys.api_key, keys.access_token, keys.key_id, keys.key_secret)]
    told, ledger = Told(), Notebook()
    with target(Run(tmp_path, told), box, ledger) as opened:
        stored = uploaded(opened, image, "erp04.qcow2")
        box.faults.import_fails = True
        try:
            with pytest.raises(TargetError) as caught:
                opened.import_image(
                    stored,
                    name="erp04",
                    disk_sha256=SHA256,
                    firmware=Firmware.BIOS,
                    requirements=NEEDS,
                    description="erp04",
                )
        finally:
            box.faults.import_fails = False
    output = capfd.readouterr()
    shown = known_from(caught.value) + caplog.text + told.text + output.out + output.err + repr(ledger) + repr(box)
    assert not [number for number, secret in enumerate(secrets) if secret in shown]
    assert "X-Amz-Signature" not in shown
    on_disk = [p for p in box.folder.rglob("*") if p.is_file() and b"X-Amz-Signature=" in p.read_bytes()]
    assert [str(path) for path in on_disk] == []


@pytest.mark.slow
def test_a_refusal_names_every_reason_at_once(run: Run, box: Sandbox) -> None:
    wrong = credentials()
    where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
    with magalu_target(run, where, wrong, Notebook(), settings()) as opened:
        reasons = opened.refuses(name="erp 05 ção", size_bytes=23_400_000_000, firmware=Firmware.BIOS)
    assert [reason.code for reason in reasons] == ["MGC-001", "MGC-002", "MGC-003", "MGC-005"]
    name, file, api, storage = (f"{reason.text} {reason.remedy}" for reason in reasons)
    assert "' ', 'ã', 'ç'" in name
    assert "for example erp-05-o" in name
    assert "has 23.4 GB and Magalu Cloud takes 20 GB: 3.4 GB too much" in file
    assert "answered 401" in api
    assert "403 InvalidAccessKeyId" in storage


@pytest.mark.slow
def test_a_name_that_is_taken_by_hand_is_a_reason(run: Run, box: Sandbox, image: Path) -> None:
    with target(run, box, Notebook()) as opened:
        stored = uploaded(opened, image, "erp07.qcow2")
        url = s3(box).generate_presigned_url("get_object", Params={"Bucket": stored.bucket, "Key": stored.key})
        body = {"name": "erp07", "url": url, "platform": "linux", "license": "unlicensed", "architecture": "x86/64"}
        with httpx.Client(
            base_url=box.api_url, headers={"X-API-Key": box.credentials.api_key.reveal()}, trust_env=False
        ) as http:
            id_ = http.post("/v1/images/custom", json=body).json()["id"]
            while http.get(f"/v1/images/custom/{id_}").json()["status"] == "importing":
                time.sleep(0.02)
        assert opened.refuses(name="erp07", size_bytes=None, firmware=Firmware.BIOS) == [
            Reason(
                "MGC-004",
                f'the name "erp07" is taken: image {id_}, active, without a description.',
                "Choose another with --name.",
            )
        ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"part_bytes": MIN_PART - 1},
        {"part_bytes": (5 << 30) + 1},
        {"url_seconds": 12 * 3600},
        {"url_seconds": 604_001},
    ],
)
def test_settings_out_of_their_limits_are_wrong_usage(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_settings_at_their_limits_are_right() -> None:
    assert Settings(part_bytes=MIN_PART, url_seconds=604_000).file_limit == 20 * 10**9
    assert Settings(part_bytes=5 << 30, url_seconds=12 * 3600 + 1).url_seconds == 43_201


def test_the_target_is_a_target_with_a_bucket_of_its_own(run: Run) -> None:
    where = region("br-se1")
    with magalu_target(run, where, credentials(), Notebook()) as opened:
        checked: Target = opened
        assert checked is opened
        assert re.fullmatch("magalu-migrate-[0-9a-f]{12}", opened.bucket)


@pytest.mark.slow
def test_the_cloud_ends_during_an_import_and_a_second_run_goes_on(run: Run, image: Path, tmp_path: Path) -> None:
    folder, ledger = tmp_path / "box", Notebook()
    with sandbox(run, folder) as box, target(run, box, ledger) as opened:
        box.faults.import_s = 60
        stored = uploaded(opened, image, "erp06.qcow2")
        where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
        hasty = settings(patience=Patience(poll=0.02, deadline=0.1))
        with magalu_target(run, where, box_credentials(box), ledger, hasty) as first, pytest.raises(TargetBusy):
            first.import_image(
                stored, name="erp06", disk_sha256=SHA256, firmware=Firmware.BIOS, requirements=NEEDS, description=""
            )
    begun = {names["name"]: names["id"] for _, _, names in ledger.lines if "id" in names}
    with sandbox(run, folder) as box, target(run, box, ledger, begun) as opened:
        assert uploaded(opened, image, "erp06.qcow2") == stored
        done = opened.import_image(
            stored, name="erp06", disk_sha256=SHA256, firmware=Firmware.BIOS, requirements=NEEDS, description=""
        )
        assert done.status == "active"
        assert done.id != begun["erp06"]
        assert MARKER in (box.folder / "images/images.json").read_text()

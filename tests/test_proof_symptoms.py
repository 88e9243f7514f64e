"""Consoles of failed boots, and what is said of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from migrate.proof import screen, symptoms
from migrate.proof.console import FLOOD, Console, plain

CONSOLES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "proof_consoles.yaml").read_text())


@pytest.mark.parametrize("case", CONSOLES, ids=lambda case: str(case["name"]).replace(" ", "-"))
def test_a_console_is_put_into_words(case: dict[str, Any]) -> None:
    assert symptoms.found(case["console"]) == case["means"]
    assert symptoms.is_dead(case["console"]) is case["dead"]


def test_foreign_words_cannot_act_on_a_terminal() -> None:
    hostile = b"Kernel panic - not syncing: \x1b]0;owned\x07\x1b[2J\x9b31m\xe2\x80\xaeevil\x00\r\n"
    text = plain(hostile)
    assert text == "Kernel panic - not syncing: �31mevil\n"
    assert symptoms.found(text) == ["kernel panic: �31mevil"]


def test_what_firmware_writes_by_moving_the_cursor_becomes_lines() -> None:
    assert (
        plain(b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[01;01HBdsDxe: one\x1b[02;01HBdsDxe: two")
        == "\n\nBdsDxe: one\nBdsDxe: two"
    )


def test_the_user_that_cloud_init_gave_the_key_is_learned_from_the_console() -> None:
    line = "ci-info: ++++++Authorized keys from /home/debian/.ssh/authorized_keys for user debian++++++"
    found = symptoms.KEYS_FOR.search(line)
    assert found is not None
    assert found.group(1) == "debian"


def test_a_flood_is_seen_and_of_its_text_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "serial.log"
    file.write_bytes(b"first\n" + b"noise\n" * 4_000_000 + b"last\n")
    console = Console(file)
    assert console.read(1.0)
    assert not console.read(2.0)
    assert (console.size > FLOOD, console.changed_at) == (True, 1.0)
    text = console.text()
    assert len(text) < 200_000
    assert text.startswith("first\n")
    assert text.endswith("noise\nlast\n")
    assert "bytes left out" in text


def cells(*rows: str) -> bytes:
    """The rows as a VGA card holds them, grey on black."""
    text = "".join(row.ljust(screen.COLUMNS) for row in rows).encode("cp437")
    return bytes(byte for cell in text for byte in (cell, 0x07)).ljust(screen.WINDOW_BYTES, b"\0")


def test_the_screen_of_a_guest_without_serial_console_is_read() -> None:
    assert screen.text(cells("ALERT!  /dev/sda2 does not exist.", "", "(initramfs) ")) == (
        "ALERT!  /dev/sda2 does not exist.\n(initramfs)"
    )


def test_a_screen_in_graphics_mode_is_not_taken_for_text() -> None:
    assert screen.text(bytes(screen.WINDOW_BYTES)) is None
    assert screen.text(bytes(range(256)) * (screen.WINDOW_BYTES // 256)) is None

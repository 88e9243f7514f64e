"""Modules go out of PAM's files, and whoever could log in still can: libpam itself says so."""

import ctypes
import ctypes.util
import os
from pathlib import Path

import pytest

from remediations import pam

DEBIAN = """\
# here are the per-package modules (the "Primary" block)
auth\t[success=2 default=ignore]\tpam_permit.so
auth\t[success=1 default=ignore]\tpam_aad.so
# here's the fallback if no module succeeds
auth\trequisite\tpam_deny.so
auth\trequired\tpam_permit.so
"""


def without(text: str, module: str = "pam_aad.so") -> str:
    return pam.without(text, lambda line: module in line)


def authenticates(folder: Path, text: str) -> bool:
    """Whether libpam lets somebody in by this file. Source: pam_start_confdir(3)."""
    (folder / "service").write_text(text)
    library = ctypes.CDLL(ctypes.util.find_library("pam") or "libpam.so.0")
    talk = (ctypes.c_void_p * 2)(ctypes.cast(library.pam_strerror, ctypes.c_void_p), None)  # it is never asked anything
    handle = ctypes.c_void_p()
    where = os.fsencode(folder)
    if library.pam_start_confdir(b"service", b"maria", ctypes.byref(talk), where, ctypes.byref(handle)) != 0:
        raise AssertionError("libpam does not start")
    try:
        return bool(library.pam_authenticate(handle, 0) == 0)
    finally:
        library.pam_end(handle, 0)


def test_a_jump_over_a_module_that_goes_becomes_shorter() -> None:
    assert without(DEBIAN) == DEBIAN.replace("auth\t[success=1 default=ignore]\tpam_aad.so\n", "").replace(
        "success=2", "success=1"
    )


def test_libpam_lets_in_whom_it_let_in_before_and_would_not_with_the_line_only_cut(tmp_path: Path) -> None:
    assert authenticates(tmp_path, without(DEBIAN))
    cut = "".join(line for line in DEBIAN.splitlines(keepends=True) if "pam_aad.so" not in line)
    assert not authenticates(tmp_path, cut)


def test_libpam_keeps_out_whom_it_kept_out(tmp_path: Path) -> None:
    refused = DEBIAN.replace("[success=2 default=ignore]\tpam_permit.so", "[success=2 default=ignore]\tpam_deny.so")
    assert not authenticates(tmp_path, without(refused))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # of another kind of stack, or after the jump's end: the count stays
        ("auth [success=1] a.so\naccount required pam_aad.so\n", "auth [success=1] a.so\n"),
        (
            "auth [success=1] a.so\nauth required b.so\nauth optional pam_aad.so\n",
            "auth [success=1] a.so\nauth required b.so\n",
        ),
        # a jump over nothing else is the same as ok
        ("auth [success=1 default=die] a.so\nauth x pam_aad.so\n", "auth [success=ok default=die] a.so\n"),
        # each number of a control by itself, two modules that go, a dash before the kind, capitals
        (
            "Auth [success=3 new_authtok_reqd=1 default=ignore] a.so\n-auth x pam_aad.so\nauth x pam_aad.so y\nauth required b.so\n",
            "Auth [success=1 new_authtok_reqd=ok default=ignore] a.so\nauth required b.so\n",
        ),
        # a line that goes on is one line
        (
            "session [default=1] a.so\nsession optional \\\n  pam_aad.so\nsession required b.so",
            "session [default=ok] a.so\nsession required b.so",
        ),
        ("@include common-auth\nauth sufficient pam_aad.so\r\n# end\r\n", "@include common-auth\n# end\r\n"),
        ("nothing of it\n", "nothing of it\n"),
    ],
)
def test_counts_follow_what_is_left(before: str, after: str) -> None:
    assert without(before) == after
    assert without(after) == after

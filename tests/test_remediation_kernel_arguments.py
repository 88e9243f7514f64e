"""The kernel's command line, argument by argument, wherever it is kept."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.draft import Draft
from migrate.guest import File
from migrate.guests.memory import MemoryGuest
from remediations import kernel_arguments
from remediations.kernel_arguments import Arguments, assignment, defaults, entry, environment, menu, old_menu, split

GRUB_CFG = """\
set default="0"
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {
	search --no-floppy --fs-uuid --set=root 1f0d
	echo	'Loading root=/dev/sda2 ...'
	linux	/boot/vmlinuz-6.1.0-21-amd64 root=/dev/sda2 ro  quiet "dyndbg=file drivers/usb/* +p" 
	initrd	/boot/initrd.img-6.1.0-21-amd64
}
menuentry 'EFI and 16 bit' {
	linuxefi /vmlinuz-6.1 root=/dev/sda2
	linux16 /vmlinuz-6.1
}
menuentry 'Memory test' {
	linux16	/boot/memtest86+x64.bin root=/dev/sda2
}
"""  # noqa: W291


def by_uuid(words: Arguments) -> Arguments:
    return tuple("root=UUID=1f0d" if word == "root=/dev/sda2" else word for word in words)


def with_debug(words: Arguments) -> Arguments:
    return (*words, "debug")


def draft_of(**files: str) -> Draft:
    return Draft(MemoryGuest({"/" + path.replace("__", "/"): File(text.encode()) for path, text in files.items()}))


def texts(draft: Draft) -> dict[str, str]:
    return {effect.path: effect.after.text for effect in draft.changes.effects}  # type: ignore[union-attr]


def test_only_the_arguments_of_linux_are_changed_in_a_menu() -> None:
    expected = GRUB_CFG.replace(
        """root=/dev/sda2 ro  quiet "dyndbg=file drivers/usb/* +p" \n""",
        """root=UUID=1f0d ro quiet "dyndbg=file drivers/usb/* +p"\n""",
    ).replace("/vmlinuz-6.1 root=/dev/sda2", "/vmlinuz-6.1 root=UUID=1f0d")
    assert menu(GRUB_CFG, by_uuid) == expected


def test_a_kernel_without_arguments_gets_them_and_a_memory_test_does_not() -> None:
    changed = menu(GRUB_CFG, with_debug)
    assert "\tlinux16 /vmlinuz-6.1 debug\n" in changed
    assert "\tlinux16\t/boot/memtest86+x64.bin root=/dev/sda2\n" in changed


@pytest.mark.skipif(not shutil.which("grub-script-check"), reason="grub-script-check is not installed")
def test_grub_itself_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "grub.cfg"
    path.write_text(menu(menu(GRUB_CFG, by_uuid), with_debug))
    assert subprocess.run(["grub-script-check", path], check=False).returncode == 0


def test_a_line_that_goes_on_or_never_closes_its_quote_is_left_alone() -> None:
    text = "\tlinux /vmlinuz-6 root=/dev/sda2 \\\n\t quiet\n\tlinux /vmlinuz-6 root=/dev/sda2 'open\n"
    assert menu(text, by_uuid) == text


def test_what_does_not_change_keeps_its_spaces() -> None:
    assert menu(GRUB_CFG, lambda words: words) == GRUB_CFG


@given(st.lists(st.sampled_from(["ro", '"a b"', "x='y z'", r"q\ r", "a=$b", "", "  ", "\t"]), max_size=8))
def test_splitting_finds_every_argument_once(words: list[str]) -> None:
    text = " ".join(words)
    assert split(text) == tuple(word for word in words if word.strip())


def test_entries_of_the_boot_loader_specification() -> None:
    text = "title x\nlinux /vmlinuz-5\noptions root=/dev/sda2 ro\ninitrd /i\n"
    assert entry(text, by_uuid) == "title x\nlinux /vmlinuz-5\noptions root=UUID=1f0d ro\ninitrd /i\n"


def test_grubenv_stays_1024_bytes_long() -> None:
    text = "# GRUB Environment Block\nsaved_entry=x\nkernelopts=root=/dev/sda2 ro\n".ljust(1024, "#")
    after = environment(text, by_uuid)
    assert after == "# GRUB Environment Block\nsaved_entry=x\nkernelopts=root=UUID=1f0d ro\n".ljust(1024, "#")


def test_grubenv_that_would_grow_beyond_its_size_stays() -> None:
    text = f"# GRUB Environment Block\nkernelopts=root=/dev/sda2 {'x' * 970}\n".ljust(1024, "#")
    assert environment(text, with_debug) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('GRUB_CMDLINE_LINUX="root=/dev/sda2 quiet"  # x', 'GRUB_CMDLINE_LINUX="root=UUID=1f0d quiet"  # x'),
        ("export GRUB_CMDLINE_LINUX='root=/dev/sda2'", "export GRUB_CMDLINE_LINUX='root=UUID=1f0d'"),
        ("GRUB_CMDLINE_LINUX_DEFAULT=root=/dev/sda2", 'GRUB_CMDLINE_LINUX_DEFAULT="root=UUID=1f0d"'),
        ('# GRUB_CMDLINE_LINUX="root=/dev/sda2"', '# GRUB_CMDLINE_LINUX="root=/dev/sda2"'),
        ('GRUB_DISTRIBUTOR="root=/dev/sda2"', 'GRUB_DISTRIBUTOR="root=/dev/sda2"'),
        ("GRUB_CMDLINE_LINUX=`echo root=/dev/sda2`", "GRUB_CMDLINE_LINUX=`echo root=/dev/sda2`"),
        ('GRUB_CMDLINE_LINUX="root=/dev/sda2"; true', 'GRUB_CMDLINE_LINUX="root=/dev/sda2"; true'),
    ],
)
def test_settings_of_grub_are_changed_where_they_are_plain_assignments(before: str, after: str) -> None:
    assert defaults(before + "\n", by_uuid) == after + "\n"


def test_a_shell_reads_the_same_value_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "grub"
    path.write_text(defaults("GRUB_CMDLINE_LINUX=root=/dev/sda2\nGRUB_CMDLINE_LINUX_DEFAULT='a \"b\"'\n", with_debug))
    script = f'. {path}; printf "%s|%s" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == 'root=/dev/sda2 debug|a "b" debug'


def test_every_place_is_rewritten() -> None:
    grub = "GRUB_CMDLINE_LINUX=root=/dev/sda2\n"
    draft = draft_of(
        boot__grub__grub_cfg="",
        boot__grub2__grubenv="kernelopts=root=/dev/sda2\n".ljust(1024, "#"),
        boot__loader__entries__a="",
        etc__kernel__cmdline="root=/dev/sda2 ro\n",
        etc__default__grub=grub,
    )
    draft.write("/boot/grub/grub.cfg", "linux /vmlinuz root=/dev/sda2\n", why="x")
    draft.write("/boot/loader/entries/a.conf", "options root=/dev/sda2\n", why="x")
    kernel_arguments.rewrite(draft, by_uuid, why="names a disk")
    assert {path: draft.read(path) for path in texts(draft)} == {
        "/boot/grub/grub.cfg": "linux /vmlinuz root=UUID=1f0d\n",
        "/boot/loader/entries/a.conf": "options root=UUID=1f0d\n",
        "/boot/grub2/grubenv": "kernelopts=root=UUID=1f0d\n".ljust(1024, "#"),
        "/etc/kernel/cmdline": "root=UUID=1f0d ro\n",
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="root=UUID=1f0d"\n',
    }


def lacking_debug(words: Arguments) -> Arguments:
    return () if "debug" in words else ("debug",)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GRUB_CMDLINE_LINUX=\n", 'GRUB_CMDLINE_LINUX="debug"\n'),
        ("GRUB_TIMEOUT=1", 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="debug"\n'),
        ("GRUB_CMDLINE_LINUX_DEFAULT='quiet debug'\n", "GRUB_CMDLINE_LINUX_DEFAULT='quiet debug'\n"),
        (
            'GRUB_CMDLINE_LINUX=a\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX b"\n',
            'GRUB_CMDLINE_LINUX=a\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX b debug"\n',
        ),
        ("GRUB_CMDLINE_LINUX=debug\nGRUB_CMDLINE_LINUX=\n", 'GRUB_CMDLINE_LINUX=debug\nGRUB_CMDLINE_LINUX="debug"\n'),
        (
            "GRUB_CMDLINE_LINUX=debug\nGRUB_CMDLINE_LINUX=${GRUB_CMDLINE_LINUX}\n",
            "GRUB_CMDLINE_LINUX=debug\nGRUB_CMDLINE_LINUX=${GRUB_CMDLINE_LINUX}\n",
        ),
        ("GRUB_CMDLINE_LINUX=`x`\n", 'GRUB_CMDLINE_LINUX=`x`\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX debug"\n'),
    ],
)
def test_what_a_normal_entry_lacks_is_added_to_the_setting_that_counts(before: str, after: str) -> None:
    draft = draft_of(etc__default__grub=before)
    kernel_arguments.add(draft, lacking_debug, why="x")
    assert draft.read("/etc/default/grub") == after


def test_a_later_file_of_grub_d_decides() -> None:
    draft = draft_of(etc__default__grub="GRUB_CMDLINE_LINUX=debug\n")
    draft.write("/etc/default/grub.d/50-cloudimg-settings.cfg", "GRUB_CMDLINE_LINUX=quiet\n", why="x")
    kernel_arguments.add(draft, lacking_debug, why="x")
    assert draft.read("/etc/default/grub") == "GRUB_CMDLINE_LINUX=debug\n"
    assert draft.read("/etc/default/grub.d/50-cloudimg-settings.cfg") == 'GRUB_CMDLINE_LINUX="quiet debug"\n'


def test_entries_that_take_their_arguments_from_grubenv_get_none_of_their_own() -> None:
    draft = draft_of(boot__grub2__grubenv="kernelopts=ro\n".ljust(1024, "#"))
    draft.write("/boot/loader/entries/a.conf", "options $kernelopts $tuned_params\n", why="x")
    kernel_arguments.add(draft, lacking_debug, why="x")
    assert draft.read("/boot/loader/entries/a.conf") == "options $kernelopts $tuned_params\n"
    assert draft.read("/boot/grub2/grubenv") == "kernelopts=ro debug\n".ljust(1024, "#")


def test_an_assignment_is_read_with_its_parts() -> None:
    found = assignment("  export GRUB_DEFAULT='1>0'  # the second")
    assert found is not None
    assert (found.head, found.name, found.quote, found.value, found.tail) == (
        "  export GRUB_DEFAULT=",
        "GRUB_DEFAULT",
        "'",
        "1>0",
        "  # the second",
    )


def test_arguments_that_match_a_pattern_go_from_wherever_they_are() -> None:
    draft = draft_of(
        boot__grub2__grubenv=f"kernelopts=root=x rootdelay=300\n{'#' * 992}",
        etc__kernel__cmdline="root=x nvme_core.io_timeout=4294967295 rootwait\n",
        etc__default__grub="GRUB_CMDLINE_LINUX='console=ttyS0 \"rootdelay=300\" quiet'\n",
    )
    kernel_arguments.drop_arguments(draft, ("rootdelay=*", "nvme_core.*"), "waits for another cloud")
    found = texts(draft)
    assert found["/etc/kernel/cmdline"] == "root=x rootwait\n"
    assert found["/etc/default/grub"] == "GRUB_CMDLINE_LINUX='console=ttyS0 quiet'\n"
    assert found["/boot/grub2/grubenv"].startswith("kernelopts=root=x\n##")
    assert len(found["/boot/grub2/grubenv"]) == 1024
    assert {effect.why for effect in draft.changes.effects} == {"waits for another cloud"}


OLD_MENU = """\
## ## Start Default Options ##
# kopt=root=/dev/sda2 ro
## e.g. kopt=root=/dev/sda2
default\t0
title Debian GNU/Linux, kernel 2.6.32-5-amd64
root\t(hd0,0)
kernel\t/vmlinuz-2.6.32-5-amd64 root=/dev/sda2 ro quiet
initrd\t/initrd.img-2.6.32-5-amd64
title Xen
kernel /xen.gz root=/dev/sda2
module /vmlinuz-2.6.18-8.el5xen ro root=/dev/sda2
module /initrd-2.6.18-8.el5xen.img
"""


def test_old_grubs_kernels_and_what_its_menu_is_made_from_are_changed_and_nothing_else() -> None:
    expected = OLD_MENU.replace("# kopt=root=/dev/sda2", "# kopt=root=UUID=1f0d")
    expected = expected.replace("amd64 root=/dev/sda2", "amd64 root=UUID=1f0d").replace(
        "ro root=/dev/sda2", "ro root=UUID=1f0d"
    )
    assert old_menu(OLD_MENU, by_uuid) == expected


def test_syslinux_and_what_its_menu_is_made_from_are_changed() -> None:
    draft = Draft(
        MemoryGuest(
            {
                "/boot/extlinux.conf": File(
                    b"LABEL lts\n  LINUX vmlinuz-lts\n  APPEND root=/dev/sda2 quiet\nLABEL hd\n  append -\n"
                ),
                "/etc/update-extlinux.conf": File(
                    b'# root=/dev/x\nroot=/dev/sda2\ndefault_kernel_opts="quiet rootfstype=ext4"\nmodules=ext4\n'
                ),
            }
        )
    )
    kernel_arguments.rewrite(draft, by_uuid, why="x")
    kernel_arguments.add(draft, lambda words: () if "debug" in words else ("debug",), why="x")
    found = {path: draft.read(path) for path in ("/boot/extlinux.conf", "/etc/update-extlinux.conf")}
    assert found == {
        "/boot/extlinux.conf": "LABEL lts\n  LINUX vmlinuz-lts\n  APPEND root=UUID=1f0d quiet debug\nLABEL hd\n  append -\n",
        "/etc/update-extlinux.conf": '# root=/dev/x\nroot=UUID=1f0d\ndefault_kernel_opts="quiet rootfstype=ext4 debug"\nmodules=ext4\n',
    }


def test_what_photons_menu_loads_counts_and_the_menu_gets_what_is_lacking() -> None:
    menu_text = "menuentry x {\n\tlinux /boot/$photon_linux root=$rootpartition $photon_cmdline\n}\n"
    for said, wanted in (("quiet", " debug"), ("quiet debug", "")):
        files = {
            "/boot/grub2/grub.cfg": menu_text,
            "/boot/linux-6.1.cfg": f"photon_cmdline=ro {said}\nphoton_linux=vmlinuz-6.1\n",
        }
        draft = Draft(MemoryGuest({path: File(text.encode()) for path, text in files.items()}))
        kernel_arguments.add(draft, lambda words: () if "debug" in words else ("debug",), why="x")
        assert draft.read("/boot/grub2/grub.cfg") == menu_text.replace(
            "$photon_cmdline\n", f"$photon_cmdline{wanted}\n"
        )
        kernel_arguments.drop_arguments(draft, ("quiet",), "x")
        assert draft.read("/boot/linux-6.1.cfg") == files["/boot/linux-6.1.cfg"].replace(" quiet", "")


def test_suses_old_settings_are_changed() -> None:
    draft = draft_of(etc__sysconfig__bootloader="DEFAULT_APPEND='quiet rootdelay=300'\nOTHER='rootdelay=300'\n")
    kernel_arguments.drop_arguments(draft, ("rootdelay=*",), "x")
    assert texts(draft) == {"/etc/sysconfig/bootloader": "DEFAULT_APPEND='quiet'\nOTHER='rootdelay=300'\n"}


def test_the_root_that_photons_menu_keeps_in_a_variable_is_changed_and_gets_nothing_added() -> None:
    text = "set rootpartition=/dev/sda2\nset rootpartition=PARTUUID=1-2\nmenuentry x {\n linux /$photon_linux root=$rootpartition\n}\n"
    draft = Draft(MemoryGuest({"/boot/grub2/grub.cfg": File(text.encode())}))
    kernel_arguments.rewrite(draft, by_uuid, why="x")
    kernel_arguments.add(draft, lambda words: ("debug",), why="x")
    expected = text.replace("=/dev/sda2", "=UUID=1f0d").replace("root=$rootpartition", "root=$rootpartition debug")
    assert draft.read("/boot/grub2/grub.cfg") == expected

"""SELinux labels: what was written gets the policy's, what had one keeps it, on the disk, from both rooms."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.draft import Draft
from migrate.errors import GuestError
from migrate.guest import Entry, File, Kind, Link, Rebuild
from migrate.guests.files import FolderFiles
from migrate.guests.labels import Unlabelled, contexts
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.guests.rooms import Choice, Rooms
from migrate.remediate import preview, remediate
from migrate.remediation import Remediation, Settings, remediation
from migrate.run import Note, Run
from remediations.selinux import is_on, relabel_selinux
from tests.guest_disks import FOLDERS, ext4_disk, overlay_of, programs_of_host, put, served, sh
from tests.remediation_guests import codes, done

POLICY = "/etc/selinux/own/contexts/files/file_contexts"
LISTS = {
    "/etc/selinux/config": "# see selinux_config(5)\nSELINUX=enforcing\nSELINUXTYPE=own\n",
    "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n",
    POLICY: "/.*\tsystem_u:object_r:default_t:s0\n"
    "/etc(/.*)?\tsystem_u:object_r:etc_t:s0\n"
    "/etc/shadow.*\t--\tsystem_u:object_r:shadow_t:s0\n"
    "/usr/lib/.*\\.so\t--\tsystem_u:object_r:lib_t:s0\n"
    "/proc/.*\t<<none>>\n",
    f"{POLICY}.local": "/srv/www(/.*)?\tsystem_u:object_r:httpd_sys_content_t:s0\n",
    f"{POLICY}.homedirs": "/home/[^/]+/\\.ssh(/.*)?\tunconfined_u:object_r:ssh_home_t:s0\n",
    f"{POLICY}.subs_dist": "/lib64 /usr/lib\n",
}


def files_in(folder: Path, texts: dict[str, str] = LISTS) -> FolderFiles:
    put(folder, {path: File(text.encode()) for path, text in texts.items()})
    return FolderFiles(folder)


def looked_up(run: Run, folder: Path, *found: str, kind: str = "file") -> dict[str, str]:
    labels = contexts(run, files_in(folder), [Unlabelled(kind, path) for path in found])
    return {path: label.split(":")[2] for path, label in labels.items()}


def test_labels_come_from_all_parts_of_the_policys_list(run: Run, tmp_path: Path) -> None:
    assert looked_up(
        run,
        tmp_path / "guest",
        *("/etc/hosts", "/etc/shadow-", "/srv/www/index.html", "/home/ana/.ssh/authorized_keys", "/lib64/libx.so"),
        *("/proc/1", "/opt/two\nlines", "/swapfile", "/opt/n\udce9"),
    ) == {
        "/etc/hosts": "etc_t",
        "/etc/shadow-": "shadow_t",
        "/srv/www/index.html": "httpd_sys_content_t",
        "/home/ana/.ssh/authorized_keys": "ssh_home_t",
        "/lib64/libx.so": "lib_t",
        "/opt/two\nlines": "default_t",
        "/swapfile": "swapfile_t",
        "/opt/n\udce9": "default_t",
    }


def test_a_rule_for_files_does_not_label_a_folder_or_a_link(run: Run, tmp_path: Path) -> None:
    for kind in ("dir", "lnk_file"):
        assert looked_up(run, tmp_path / kind, "/etc/shadow", kind=kind) == {"/etc/shadow": "etc_t"}


def test_many_files_are_asked_for_in_turn(run: Run, tmp_path: Path) -> None:
    paths = [f"/etc/{number}" for number in range(1200)]
    assert looked_up(run, tmp_path / "guest", *paths) == dict.fromkeys(paths, "etc_t")


def test_without_a_list_there_are_no_labels(run: Run, tmp_path: Path) -> None:
    files = files_in(tmp_path / "guest", {"/etc/selinux/config": "SELINUX=enforcing\n"})
    with pytest.raises(GuestError, match="there is no /etc/selinux/targeted/contexts/files/file_contexts"):
        contexts(run, files, [Unlabelled("file", "/etc/x")])


def test_a_list_that_is_no_list_is_an_error_in_words(run: Run, tmp_path: Path) -> None:
    files = files_in(tmp_path / "guest", LISTS | {POLICY: "/only-a-path\n"})
    with pytest.raises(GuestError, match=r"policy cannot be asked for labels: .* line 1 is missing fields"):
        contexts(run, files, [Unlabelled("file", "/etc/x")])


def test_a_policy_that_labels_nothing_is_not_believed(run: Run, tmp_path: Path) -> None:
    for number, empty in enumerate(("", "/( system_u:object_r:etc_t:s0\n")):
        files = files_in(
            tmp_path / f"{number}",
            {path: text for path, text in LISTS.items() if ".subs" not in path} | {POLICY: empty},
        )
        with pytest.raises(GuestError, match="gives none of the 1 file a label"):
            contexts(run, files, [Unlabelled("file", "/etc/x")])


# The remediation


def selinux(config: str, *, id: str = "rocky", arguments: str = "ro", policy: bool = True) -> MemoryGuest:
    files = {"/etc/selinux/config": config, "/boot/grub2/grub.cfg": f"linux /vmlinuz-5 {arguments}\n"}
    return from_yaml(
        f"os: {{id: {id}}}\nfiles: "
        + json.dumps(files | ({"/etc/selinux/targeted/contexts/files/file_contexts": "x"} if policy else {}))
    )


@pytest.mark.parametrize(
    ("config", "id", "arguments", "on"),
    [
        ("SELINUX=enforcing\n", "rocky", "ro", True),
        ("#SELINUX=disabled\nSELINUX=permissive # for now\n", "rocky", "ro", True),
        ("SELINUX=disabled\n", "rocky", "ro", False),
        ("", "rocky", "ro", False),
        ("SELINUX=enforcing\n", "rocky", "ro selinux=0", False),
        ("SELINUX=enforcing\n", "debian", "ro", False),
        ("SELINUX=enforcing\n", "debian", "ro security=selinux", True),
    ],
)
def test_selinux_is_on_where_its_configuration_and_the_kernels_arguments_say_so(
    config: str, id: str, arguments: str, on: bool
) -> None:
    assert is_on(Draft(selinux(config, id=id, arguments=arguments))) is on


@remediation("write-a-file", "Write", sources=("x",))
def write_a_file(draft: Draft, settings: Settings) -> None:
    """It writes."""
    draft.write("/etc/motd", "moved\n", why="was another")


def test_labels_are_asked_for_last_and_only_where_something_was_written(run: Run) -> None:
    to = selinux("SELINUX=enforcing\n")
    both = (write_a_file, relabel_selinux)
    assert done(to, relabel_selinux).effects == ()
    said = preview(run, to, both, Settings())
    assert [getattr(effect, "what", None) for effect in said.effects] == [None, Rebuild.SELINUX_LABELS]
    assert remediate(run, to, both, Settings(), "repair").effects == said.effects
    assert remediate(run, to, both, Settings(), "repair").effects == ()


def test_a_guest_without_selinux_is_left_alone() -> None:
    assert len(done(selinux("SELINUX=disabled\n"), write_a_file, relabel_selinux).effects) == 1


def test_a_policy_that_is_not_there_is_told() -> None:
    changes = done(selinux("SELINUX=enforcing\n", policy=False), write_a_file, relabel_selinux)
    assert (codes(changes), len(changes.effects)) == (["SEL-001"], 1)


# On a real disk


@pytest.fixture(scope="module")
def policy() -> Iterator[Path]:
    """Debian's own policy, as its package's modules make it."""
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        folder = Path(name)
        subprocess.run(["apt-get", "download", "-q", "selinux-policy-default"], cwd=folder, check=True)
        sh("dpkg-deb", "-x", *folder.glob("*.deb"), folder)
        (folder / "etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=default\n")
        modules = sorted((folder / "usr/share/selinux/default").glob("*.pp.bz2"))
        words = ["semodule", "--noreload", "--store=default", f"--path={folder}", "--priority=100"]
        sh(*words, *(word for module in modules for word in ("--install", module)))
        yield folder / "etc/selinux"


GUEST: dict[str, Entry] = {
    "/etc/os-release": File(b"ID=rocky\nVERSION_ID=9\n"),
    "/etc/fstab": File(b"/dev/sda1 / ext4 defaults 0 1\n"),
    "/etc/chosen": File(b"old"),
    "/etc/shadow": File(b"root:*:::::::\n", 0o600),
    "/etc/untouched": File(b"x"),
    "/etc/passwd": File(b"root:x:0:0::/root:/bin/sh\n"),
    "/var/log/old.log": File(b"x"),
    "/bin": Link("usr/bin"),
    "/lib": Link("usr/lib"),
    "/lib64": Link("usr/lib64"),
}
CHOSEN = "system_u:object_r:httpd_sys_content_t:s0"
USUAL = "system_u:object_r:etc_t:s0"


def labelled_disk(folder: Path, policy: Path) -> Path:
    """A disk as SELinux leaves it, one label chosen by the operator; with find, env, mv and what they need."""
    root = folder / "root"
    put(root, FOLDERS | {path: entry for path, entry in GUEST.items() if not isinstance(entry, Link)})
    programs_of_host(root, "find", "env", "mv", "sh")
    (root / "usr/lib").mkdir(exist_ok=True)
    for name, entry in GUEST.items():
        if isinstance(entry, Link):
            (root / name[1:]).symlink_to(entry.target)
    shutil.copytree(policy, root / "etc/selinux")
    for there in sorted(root.rglob("*")):
        sh("setfattr", "--no-dereference", "-n", "security.selinux", "-v", USUAL, there)
    sh("setfattr", "-n", "security.selinux", "-v", CHOSEN, root / "etc/chosen")
    return ext4_disk(folder / "disk.raw", root, mib=64)


@remediation("write-much", "Write", sources=("x",))
def write_much(draft: Draft, settings: Settings) -> None:
    """It writes."""
    draft.write("/etc/chosen", "new", why="was old")
    draft.write("/usr/lib/systemd/system/own.service", "[Service]\n", why="was missing")
    draft.link("/etc/systemd/system/multi-user.target.wants/own.service", "/usr/lib/x", why="was missing")
    draft.write("/home/ana/.ssh/authorized_keys", "key\n", why="was missing")
    draft.remove("/var/log/old.log", why="tells old things")


def on_disk(overlay: Path, raw: Path, *paths: str) -> dict[str, str]:
    """Return the types of files on the disk, "" where a file has no label, by e2fsprogs' own debugger."""
    sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, raw)
    found = {}
    for path in paths:
        said = sh("debugfs", "-R", f"ea_get -V {path} security.selinux", f"{raw}?offset={1 << 20}")
        found[path] = said.strip().rstrip("\0").split(":")[2] if said.strip() else ""
    return found


@pytest.mark.slow
@pytest.mark.parametrize("choice", [Choice.APPLIANCE, Choice.OVERLAY], ids=lambda choice: choice.value)
def test_what_was_written_is_labelled_on_the_disk_and_chosen_labels_stay(
    run: Run, policy: Path, choice: Choice
) -> None:
    told: list[object] = []
    run.listener = told.append
    disk = labelled_disk(run.work, policy)
    overlay = run.work / "overlay.qcow2"
    with served(run, disk, "raw") as uri:
        overlay_of(overlay, uri)
        with Rooms(kvm=False, choice=choice).repair(run, uri, overlay, None) as repair:
            replace: Remediation = write_much
            remediate(run, repair.guest, (replace,), Settings(), "repair")
            # As useradd does: a new file takes the old one's place, and its label is not taken along.
            repair.guest.store("/etc/shadow+", File(b"root:*:::::::\nana:!:::::::\n", 0o600))
            repair.guest.execute(["/bin/mv", "/etc/shadow+", "/etc/shadow"], env={})  # type: ignore[attr-defined]
            repair.guest.rebuild(Rebuild.SELINUX_LABELS)
            assert repair.guest.kind("/.autorelabel") is Kind.MISSING
            repair.finish()
        assert on_disk(
            overlay,
            run.work / "after.raw",
            *("/etc/chosen", "/etc/shadow", "/etc/untouched", "/usr/lib/systemd/system/own.service"),
            *("/usr/lib/systemd/system", "/etc/systemd/system/multi-user.target.wants/own.service", "/etc"),
            *("/home/ana", "/home/ana/.ssh/authorized_keys"),
        ) == {
            "/etc/chosen": "httpd_sys_content_t",
            "/etc/shadow": "shadow_t",
            "/etc/untouched": "etc_t",
            "/etc": "etc_t",
            "/usr/lib/systemd/system": "systemd_unit_t",
            "/usr/lib/systemd/system/own.service": "systemd_unit_t",
            "/etc/systemd/system/multi-user.target.wants/own.service": "systemd_unit_t",
            "/home/ana": "user_home_dir_t",
            "/home/ana/.ssh/authorized_keys": "ssh_home_t",
        }
    assert not [event for event in told if isinstance(event, Note)]


@pytest.mark.slow
def test_where_labels_cannot_be_had_the_guest_labels_itself_and_that_is_said(run: Run) -> None:
    told: list[object] = []
    run.listener = told.append
    put(run.work / "root", FOLDERS | {path: entry for path, entry in GUEST.items() if isinstance(entry, File)})
    (run.work / "root/bin").symlink_to("usr/bin")
    disk = ext4_disk(run.work / "disk.raw", run.work / "root")
    overlay = run.work / "overlay.qcow2"
    with served(run, disk, "raw") as uri:
        overlay_of(overlay, uri)
        with Rooms(kvm=False, choice=Choice.OVERLAY).repair(run, uri, overlay, None) as repair:
            repair.guest.store("/etc/new", File(b"x"))
            repair.guest.rebuild(Rebuild.SELINUX_LABELS)
            assert repair.guest.kind("/.autorelabel") is Kind.FILE
    assert "one restart more" in str(told)

"""Without cloud-init, a unit of our own: who gets the key, what starts it, and that its script does what it says on every shell."""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.errors import ToolFailed
from migrate.guest import File, Link
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.login import LOGIN_FACT
from migrate.proof.metadata import Instance, MetadataService
from migrate.proof.namespace import Namespace, network_namespace
from migrate.remediation import Settings
from migrate.run import Run
from remediations.first_boot import NAME, PROGRAM, boot_without_cloud_init, key_user, script
from remediations.needed_packages import install_cloud_init
from remediations.ssh import allow_key_login
from tests.remediation_guests import applied, codes, done, outcome

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH5GeuNfWmqlg9jrDdkl2/iCuCMNcoEC435b3JRBnRvH ops@example"
OTHER_KEY = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= other"
SHELLS = tuple(
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"this machine has no {name}"))
    for name in ("dash", "bash", "busybox")
)

# Where it is written


def test_on_a_guest_that_gets_cloud_init_there_is_nothing_of_ours() -> None:
    assert "CLOUD-007" not in codes(done(guest("debian12-vmware"), install_cloud_init, boot_without_cloud_init))
    assert done(guest("ubuntu2204-vmware-lvm"), boot_without_cloud_init).effects == ()


def test_a_user_who_leaves_the_installation_out_gets_nothing_instead() -> None:
    settings = Settings(skip=frozenset({"install-cloud-init"}))
    assert done(guest("debian12-vmware-airgapped"), boot_without_cloud_init, settings=settings).effects == ()


def test_where_nothing_can_be_installed_a_unit_is_written_and_started_and_what_it_does_not_do_is_told(run: Run) -> None:
    before = guest("debian12-vmware-airgapped")
    changes = done(before, install_cloud_init, boot_without_cloud_init)
    assert codes(changes) == ["CLOUD-006", "CLOUD-008", "SSH-001", "CLOUD-007"]
    assert "to operador, makes SSH host keys" in changes.findings[-1].text
    assert "It does not run user data" in changes.findings[-1].text
    assert [(fact.name, fact.text) for fact in changes.facts] == [(LOGIN_FACT, "operador")]
    to = applied(run, before, install_cloud_init, boot_without_cloud_init)
    assert to.load(PROGRAM) == File(script("operador").encode(), 0o755)
    assert to.load(f"/etc/systemd/system/multi-user.target.wants/{NAME}.service") == Link(
        f"/etc/systemd/system/{NAME}.service"
    )
    # allow-key-login, before, knew nobody but cloud-init's default user.
    assert "AllowGroups suporte operador\n" in to.load("/etc/ssh/sshd_config").text  # type: ignore[union-attr]


def test_systemd_accepts_the_unit(run: Run, tmp_path: Path) -> None:
    to = applied(run, guest("debian12-vmware-airgapped"), boot_without_cloud_init)
    unit = to.load(f"/etc/systemd/system/{NAME}.service")
    assert isinstance(unit, File)
    (tmp_path / f"{NAME}.service").write_text(unit.text.replace(f"ExecStart={PROGRAM}", "ExecStart=/bin/true"))
    said = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / f"{NAME}.service"], capture_output=True, text=True, check=True
    )
    assert f"{NAME}.service" not in said.stderr


def test_on_alpine_it_is_a_service_of_openrc_and_root_gets_the_key(run: Run) -> None:
    to = applied(run, guest("alpine319-vmware-openrc"), allow_key_login, install_cloud_init, boot_without_cloud_init)
    assert to.load(f"/etc/runlevels/default/{NAME}") == Link(f"/etc/init.d/{NAME}")
    service = to.load(f"/etc/init.d/{NAME}")
    assert isinstance(service, File) and service.mode == 0o755 and service.text.startswith("#!/sbin/openrc-run\n")
    assert "USER_NAME='root'\n" in to.load(PROGRAM).text  # type: ignore[union-attr]
    assert to.load("/etc/ssh/sshd_config").text.startswith("PermitRootLogin prohibit-password\n")  # type: ignore[union-attr]


def test_on_a_guest_with_init_scripts_it_is_one(run: Run) -> None:
    files = {"/etc/inittab": File(b""), "/etc/rc.d/init.d/network": File(b"", 0o755)}
    files |= {f"/etc/rc.d/rc{level}.d/S10network": File(b"") for level in "2345"}
    to = applied(run, MemoryGuest(files), boot_without_cloud_init)
    assert to.load(f"/etc/rc.d/rc3.d/S99{NAME}") == Link(f"../init.d/{NAME}")
    text = to.load(f"/etc/rc.d/init.d/{NAME}").text  # type: ignore[union-attr]
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert "# chkconfig: 2345 99 01\n" in text


def test_a_guest_that_nothing_known_starts_is_refused() -> None:
    changes = done(from_yaml("os: {id: homemade}\nfiles: {/sbin/initctl: x}\n"), boot_without_cloud_init)
    assert [(finding.code, finding.severity.value) for finding in changes.findings] == [("CLOUD-012", "error")]
    assert changes.effects == ()


# Who gets the key

PASSWD = {
    "root": "root:x:0:0::/root:/bin/bash",
    "debian": "debian:x:1005:1005::/home/debian:/bin/bash",
    "ana": "ana:x:1000:1000::/home/ana:/bin/bash",
    "rui": "rui:x:1001:1001::/home/rui:/bin/zsh",
    "svc": "svc:x:1002:1002::/home/svc:/usr/sbin/nologin",
    "evil": "a';reboot;':x:1003:1003::/home/evil:/bin/bash",
    "app": "app:x:120:120::/srv/app:/bin/bash",
}
CONFIG = "users: [default]\nsystem_info: {default_user: {name: rui}}\n"


@pytest.mark.parametrize(
    ("users", "admins", "sudo", "config", "user"),
    [
        (("root", "ana", "rui"), "ana", True, CONFIG, "rui"),  # whom the guest's own configuration names
        (("root", "ana", "debian"), "ana", True, "", "debian"),  # whom the distribution's would
        (("root", "ana", "rui"), "rui", True, "", "rui"),  # the first who may become root
        (("root", "ana", "rui"), "ana,rui", True, "", "ana"),
        (("root", "ana"), "", True, "", "root"),  # ana could never become root
        (("root", "ana", "debian"), "ana", False, CONFIG, "root"),  # nobody could
        (("root", "svc", "app"), "svc,app", True, "", "root"),  # services' accounts
        (("root", "evil"), "a';reboot;'", True, "", "root"),  # a name that would end a word of the script
        (("root",), "", True, CONFIG, "root"),  # a user who is not there
        ((), "", False, "", "root"),
    ],
)
def test_the_key_goes_to_whom_cloud_init_would_give_it_or_to_one_who_can_become_root(
    users: tuple[str, ...], admins: str, sudo: bool, config: str, user: str
) -> None:
    files = {
        "/etc/passwd": "".join(f"{PASSWD[name]}\n" for name in users),
        "/etc/group": f"sudo:x:27:{admins}\n",
        "/etc/cloud/cloud.cfg": config,
        **({"/usr/bin/sudo": ""} if sudo else {}),
    }
    assert key_user(Draft(MemoryGuest({path: File(text.encode()) for path, text in files.items()}))) == user


@pytest.mark.parametrize("before", ["PermitRootLogin no\n", "PermitRootLogin forced-commands-only\n"])
def test_root_is_let_in_by_key_only_where_nobody_else_can_be(before: str) -> None:
    to = MemoryGuest({"/etc/ssh/sshd_config": File(before.encode()), "/lib/systemd/systemd": File(b"")})
    assert outcome(done(to, boot_without_cloud_init))["/etc/ssh/sshd_config"] == "PermitRootLogin prohibit-password\n"


# The script


def functions() -> str:
    """The script without what it does when it is called."""
    return script("ops").partition("\ncase ${1-} in")[0] + "\n"


def shell(name: str) -> list[str]:
    return ["busybox", "ash"] if name == "busybox" else [name]


def called(name: str, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell(name), "-c", functions() + text], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_script_is_clean() -> None:
    said = subprocess.run(
        ["shellcheck", "--shell=sh", "-"], input=script("ops"), text=True, capture_output=True, check=False
    )
    assert said.stdout == ""


@pytest.mark.parametrize("name", SHELLS)
def test_every_shell_reads_it(name: str) -> None:
    assert subprocess.run([*shell(name), "-n"], input=script("ops"), text=True, check=False).returncode == 0


@contextmanager
def metadata(run: Run) -> Iterator[tuple[Namespace, MetadataService]]:
    """The proof's metadata service, at its own address, in a network of its own."""
    service = MetadataService(
        Instance("0f2c1d3e-aaaa-4bbb-8ccc-1234567890ab", "erp", "02:00:00:00:00:01", KEY, "10.0.2.15")
    )
    with network_namespace(run, run.work) as namespace, service.serving(namespace.listener):
        yield namespace, service


def asked(run: Run, namespace: Namespace, name: str, text: str, *, hidden: tuple[str, ...] = ()) -> str:
    """Call functions inside of the namespace, on a machine that lacks some programs."""
    plain = run.work / "plain"
    plain.touch(mode=0o644)
    program = run.work / "program"
    program.write_text(f"#!/bin/sh\n{functions()}{text}")
    program.chmod(0o755)
    words = namespace.caged([*shell(name), program], readable=[program, plain])
    at = words.index("--chdir")
    for tool in hidden:
        for folder in ("/usr/local/bin", "/usr/bin", "/usr/sbin"):
            if os.path.lexists(f"{folder}/{tool}"):
                words[at:at] = ["--ro-bind", plain, str(Path(f"{folder}/{tool}").resolve())]
    return run.tool(words, timeout=60).text


GETTERS = ("curl", "wget", "python3", "bash")
SHOW = 'read_metadata && printf "%s\\n%s\\n" "$instance" "$keys"'


@pytest.mark.parametrize("getter", GETTERS)
def test_the_instance_and_its_key_are_read_with_whatever_the_guest_has(run: Run, getter: str) -> None:
    if shutil.which(getter) is None:
        pytest.skip(f"this machine has no {getter}")
    with metadata(run) as (namespace, service):
        # $0 is the program itself where bash asks.
        text = SHOW.replace("read_metadata", 'case ${1-} in --get) get_by_bash "$2"; exit ;; esac; read_metadata')
        said = asked(run, namespace, "dash", text, hidden=tuple(other for other in GETTERS if other != getter))
    assert said == f"{service.instance.id}\n{KEY}\n"


@pytest.mark.parametrize("name", SHELLS)
def test_where_the_openstack_tree_is_missing_amazon_s_is_read(run: Run, name: str) -> None:
    with metadata(run) as (namespace, service):
        service.tree = {key: value for key, value in service.tree.items() if key != "openstack"}
        assert asked(run, namespace, name, SHOW) == f"i-00000001\n{KEY}\n"


def test_without_metadata_nothing_is_taken_for_an_instance(run: Run) -> None:
    with metadata(run) as (namespace, service):
        service.tree = {}
        with pytest.raises(ToolFailed):
            asked(run, namespace, "dash", SHOW)


@pytest.mark.parametrize("name", SHELLS)
def test_keys_are_found_in_json_and_nothing_else_is(name: str, tmp_path: Path) -> None:
    document = {
        "uuid": "0f2c",
        "devices": [{"uuid": "not-this", "tags": ["ssh-rsa"]}],
        "name": 'x", "uuid": "evil$(touch /tmp/x)',
        "public_keys": {"a": f"{KEY}\n", "b": OTHER_KEY},
        "keys": [{"name": "a", "type": "ssh", "data": f"{KEY}\n"}, {"data": "$(reboot) ssh-rsa AAAA"}],
        "admin_pass": "ssh-ed25519",
    }
    for text in (json.dumps(document), json.dumps(document, indent=2), json.dumps(document).replace("/", "\\/")):
        (tmp_path / "json").write_text(text)
        assert called(name, f"keys_in <{tmp_path}/json").stdout == f"{OTHER_KEY}\n{KEY}\n"
        assert called(name, f"uuid_in <{tmp_path}/json").stdout == "0f2c\n"


ACCOUNT = 'getent() {{ echo "ops:x:{uid}:{gid}::{home}:/bin/sh"; }}\nrestorecon() {{ :; }}\n'


@pytest.mark.parametrize("name", SHELLS)
def test_the_key_is_added_once_and_other_keys_stay(name: str, tmp_path: Path) -> None:
    home = tmp_path / "ops"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh/authorized_keys").write_text("ssh-rsa AAAA kept\n")
    account = ACCOUNT.format(uid=os.getuid(), gid=os.getgid(), home=home)
    for _ in range(2):
        done = called(name, f"{account}keys='{KEY}\n{OTHER_KEY}'\ngive_key")
        assert done.returncode == 0, done
    assert (home / ".ssh/authorized_keys").read_text() == f"ssh-rsa AAAA kept\n{KEY}\n{OTHER_KEY}\n"


def test_a_home_that_is_not_there_is_made_and_only_its_owner_reads_the_keys(tmp_path: Path) -> None:
    home = tmp_path / "home" / "ops"
    account = ACCOUNT.format(uid=os.getuid(), gid=os.getgid(), home=home)
    assert called("dash", f"{account}keys='{KEY}'\ngive_key").returncode == 0
    modes = [stat.S_IMODE((home / path).stat().st_mode) for path in (".ssh", ".ssh/authorized_keys")]
    assert modes == [0o700, 0o600]


STUBS = """
STATE={state}
bring_up_network() {{ :; }}
read_metadata() {{ instance={instance}; keys='{key}'; }}
make_host_keys() {{ echo host keys; }}
grow_root() {{ echo grown; }}
give_key() {{ echo given; }}
main
"""


@pytest.mark.parametrize("name", SHELLS)
def test_it_does_its_work_once_for_each_instance(name: str, tmp_path: Path) -> None:
    def boot(instance: str) -> list[str]:
        said = called(name, STUBS.format(state=tmp_path / "state", instance=instance, key=KEY))
        assert said.returncode == 0
        return said.stdout.splitlines()

    assert boot("one") == ["host keys", "grown", "given", "magalu-migrate: instance one is set up"]
    assert boot("one") == ["magalu-migrate: instance one is set up already"]
    assert boot("two")[-1] == "magalu-migrate: instance two is set up"


def test_an_instance_without_a_key_is_tried_again_at_the_next_boot(tmp_path: Path) -> None:
    said = called("dash", STUBS.format(state=tmp_path / "state", instance="one", key=""))
    assert said.returncode == 1
    assert said.stdout.endswith("the metadata of instance one hold no key; the next boot tries again\n")
    assert not (tmp_path / "state").exists()


def test_it_stands_back_where_cloud_init_is(tmp_path: Path) -> None:
    said = called(
        "dash", "cloud-init() { :; }\n".replace("cloud-init()", 'there() { [ "$1" = cloud-init ]; }; x()') + "main"
    )
    assert (said.returncode, said.stdout) == (0, "magalu-migrate: cloud-init is there: nothing to do\n")


@pytest.mark.parametrize("table", ["dos", "gpt"])
def test_without_growpart_sfdisk_grows_the_partition_to_the_end_of_the_disk(table: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    layout = f"label: {table}\nstart=2048, size=4MiB\nstart=16384, size=20MiB\n"
    subprocess.run(["sfdisk", "--quiet", disk], input=layout, text=True, check=True)
    with disk.open("r+b") as file:
        file.truncate(256 << 20)
    hidden = 'there() { [ "$1" != growpart ] && command -v "$1" >/dev/null; }\n'
    called("dash", f"{hidden}grow_partition ../{disk} 2")
    parts = json.loads(subprocess.run(["sfdisk", "--json", disk], capture_output=True, text=True, check=True).stdout)[
        "partitiontable"
    ]["partitions"]
    assert [part["start"] for part in parts] == [2048, 16384]
    assert parts[0]["size"] == 8192
    assert (16384 + parts[1]["size"]) * 512 > (255 << 20)

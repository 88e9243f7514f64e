"""Lines of a vendor's go, the others stay as they were written; what belongs together goes in one step."""

import subprocess
from pathlib import Path

import pytest

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.effects import Edit
from migrate.guest import File
from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations.vendors import leftover_removal, package_removal, vendor
from remediations.vendors.catalogue import Lines, Vendor
from remediations.vendors.lines import rewritten
from tests.remediation_guests import applied, done, outcome

AZURE, VMWARE = vendor("azure"), vendor("vmware")
STEPS = (package_removal(AZURE), leftover_removal(AZURE))


def lines(pattern: str, instead: str | None = None) -> Lines:
    return Lines(why="is gone", paths=("/etc/x",), pattern=pattern, instead=instead)


def by(of: Vendor, path: str, text: str) -> str:
    """Return what a vendor's lines make of a file."""
    draft = Draft(from_yaml("files: {}"))
    draft.write(path, text, why="x")
    leftover_removal(of).act(draft, None)  # type: ignore[arg-type]
    return draft.read(path) or ""


@pytest.mark.parametrize(
    ("group", "before", "after"),
    [
        (lines(r"\s*bad.*"), "good\n  bad 1\nbad\nnot bad\n", "good\nnot bad\n"),
        (lines(r"bad"), "bad\r\ngood\r\n bad\r\n", "good\r\n bad\r\n"),
        (lines(r"bad"), "good\nbad", "good\n"),
        (lines(r"(.*)bad(.*)", r"\1good\2"), "a bad b bad\r\nc\n", "a good b good\r\nc\n"),
        (lines(r"(x+)", r"\1x"), "x\n", "x" * 17 + "\n"),
        (lines(r"head\n(?:  \w+\n?)*"), "a\nhead\n  x\n  y\nb\nhead", "a\nb\nhead"),
        (lines(r"head(?:\n  \w+)*(?#\n)"), "a\nhead\n  x\n  y\nb\nhead", "a\nb\n"),
        (lines(r"bad"), "b\udce9d\nbad\n", "b\udce9d\n"),
        (lines(r"a.*"), "a" * 5000 + "\n", "a" * 5000 + "\n"),
    ],
)
def test_a_line_that_matches_as_a_whole_goes_or_becomes_another(group: Lines, before: str, after: str) -> None:
    assert rewritten(before, group) == after


def test_logins_by_azure_active_directory_go_from_pam_nss_and_sshd_in_one_step() -> None:
    changes = done(guest("ubuntu2004-azure-aad"), *STEPS)
    assert outcome(changes) == {
        "/var/lib/waagent": None,
        "/etc/aadpasswd": None,
        "/etc/sudoers.d/aad_admins": None,
        "/etc/sudoers": "root ALL=(ALL:ALL) ALL\n#includedir /etc/sudoers.d\n",
        "/etc/pam.d/common-auth": '# here are the per-package modules (the "Primary" block)\n'
        "auth\t[success=1 default=ignore]\tpam_unix.so nullok_secure\n"
        "# here's the fallback if no module succeeds\nauth\trequisite\t\t\tpam_deny.so\nauth\trequired\t\t\tpam_permit.so\n",
        "/etc/pam.d/common-account": "account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so \n"
        "account\trequisite\t\t\tpam_deny.so\naccount\trequired\t\t\tpam_permit.so\n",
        "/etc/pam.d/common-session": "session [default=1] pam_permit.so\nsession requisite pam_deny.so\nsession required pam_unix.so\n",
        "/etc/nsswitch.conf": "passwd:         files systemd   # aad first\ngroup:          files systemd\n"
        "shadow:         files\nhosts:          files dns\n",
        "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nMatch Group sftponly\n"
        "    ForceCommand internal-sftp\nMatch Address 10.0.0.0/8\n    X11Forwarding no\n",
    }
    steps = {effect.by for effect in changes.effects if isinstance(effect, Edit)}
    assert steps == {"remove-azure-leftovers"}


def test_sudoers_keeps_its_mode(run: Run) -> None:
    to = applied(run, guest("ubuntu2004-azure-aad"), *STEPS)
    assert to.load("/etc/sudoers") == File(b"root ALL=(ALL:ALL) ALL\n#includedir /etc/sudoers.d\n", 0o440)


def test_the_real_sshd_reads_what_is_left(run: Run, tmp_path: Path) -> None:
    to = applied(run, guest("ubuntu2004-azure-aad"), *STEPS)
    text = to.load("/etc/ssh/sshd_config").text.replace("Include", "#")  # type: ignore[union-attr]
    (tmp_path / "sshd_config").write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    command = ["/usr/sbin/sshd", "-T", "-f", str(tmp_path / "sshd_config"), "-h", str(tmp_path / "key")]
    said = subprocess.run(
        [*command, "-C", "user=maria@empresa.example,addr=10.1.1.1,host=x"],
        capture_output=True,
        text=True,
        check=True,
    )
    said_of_it = said.stdout.lower()
    assert (
        "aad_certhandler" not in said_of_it and "forcecommand none" in said_of_it and "x11forwarding no" in said_of_it
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("search reddog.microsoft.com\nnameserver 1.1.1.1\n", "nameserver 1.1.1.1\n"),
        ("search a.bx.internal.cloudapp.net reddog.microsoft.com\n", ""),
        ("search a.bx.internal.cloudapp.net empresa.example x.reddog.microsoft.com\n", "search empresa.example\n"),
        ("search empresa.example\n", "search empresa.example\n"),
        ("domain empresa.example\n# reddog.microsoft.com\n", "domain empresa.example\n# reddog.microsoft.com\n"),
    ],
)
def test_domains_that_only_azure_knows_go_and_the_others_stay(before: str, after: str) -> None:
    assert by(AZURE, "/etc/resolv.conf", before) == after


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "/etc/sysconfig/iptables",
            "*security\n:OUTPUT ACCEPT\n-A OUTPUT -d 168.63.129.16/32 -p tcp -j DROP\n-A OUTPUT -d 168.63.129.160 -j DROP\nCOMMIT\n",
            "*security\n:OUTPUT ACCEPT\n-A OUTPUT -d 168.63.129.160 -j DROP\nCOMMIT\n",
        ),
        (
            "/etc/nftables.conf",
            "chain output {\n\tip daddr 168.63.129.16 tcp dport 53 counter accept\n\tip daddr 10.0.0.1 accept\n}\n",
            "chain output {\n\tip daddr 10.0.0.1 accept\n}\n",
        ),
    ],
)
def test_rules_for_azures_host_go_from_firewalls(path: str, before: str, after: str) -> None:
    assert by(AZURE, path, before) == after


def test_a_configuration_of_cloud_inits_for_azure_goes_from_systemds_environment() -> None:
    before = '[Manager]\nDefaultEnvironment="CLOUD_CFG=/etc/cloud/azure.cfg"\nDefaultEnvironment=LANG=C\n'
    assert by(AZURE, "/etc/systemd/system.conf", before) == "[Manager]\nDefaultEnvironment=LANG=C\n"


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/etc/X11/xorg.conf", 'Driver "vmware"\n', 'Driver "modesetting"\n'),
        ("/etc/X11/xorg.conf.d/1.conf", '\tdriver\t"VMware" # x\n', '\tdriver\t"modesetting" # x\n'),
        (
            "/etc/X11/xorg.conf",
            '# Driver "vmware"\nDriver "vmwarelegacy"\n',
            '# Driver "vmware"\nDriver "vmwarelegacy"\n',
        ),
        (
            "/etc/modprobe.conf",
            "alias eth0 vmxnet\n#alias eth1 vmxnet\n",
            "alias eth0 virtio_net\n#alias eth1 vmxnet\n",
        ),
        ("/etc/modprobe.d/a.conf", "alias scsi_hostadapter2 BusLogic\n", "alias scsi_hostadapter2 virtio_blk\n"),
        ("/etc/modprobe.d/a.conf", "alias scsi_hostadapter megaraid_sas\n", "alias scsi_hostadapter megaraid_sas\n"),
        ("/etc/modules", "loop\nvmhgfs\n vmxnet3 \nvsock\n", "loop\nvsock\n"),
    ],
)
def test_names_of_vmwares_devices_become_those_of_the_new_ones(path: str, before: str, after: str) -> None:
    assert by(VMWARE, path, before) == after

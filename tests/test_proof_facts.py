"""The questions to the guest: asked of this machine by the real script, and of liars."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from migrate.proof.facts import END, Address, CloudInit, Device, Facts, new_script, parsed, sections
from migrate.run import Run

# What a Debian 12 answered in the proof, shortened to what is read.
ANSWERS = {
    "hello": "debian\n1795408549",
    "state": "degraded",
    "uptime": "95.51 47.35",
    "failed": "● cloud-config.service loaded failed failed Apply the settings specified in cloud-config",
    "jobs": "118 dev-sdb1.device start running",
    "cloud-status": json.dumps(
        {
            "v1": {
                "datasource": "DataSourceOpenStackLocal [net,ver=2]",
                "modules-final": {"errors": [], "finished": 1795408559.3318055, "start": 1795408557.6},
                "stage": None,
            }
        }
    ),
    "cloud-result": json.dumps(
        {"v1": {"datasource": "DataSourceOpenStackLocal [net,ver=2]", "errors": ["('locale', X())"]}}
    ),
    "cloud-init": "/usr/bin/cloud-init",
    "cloud-log": "2026-11-23 04:12:50,128 - util.py[WARNING]: Running module locale failed",
    "addresses": json.dumps(
        [
            {"ifname": "lo", "link_type": "loopback", "addr_info": [{"family": "inet", "local": "127.0.0.1"}]},
            {
                "ifname": "ens3",
                "link_type": "ether",
                "address": "C2:8D:DF:25:94:84",
                "addr_info": [
                    {"family": "inet", "local": "10.0.2.15", "dynamic": True},
                    {"family": "inet6", "local": "fe80::1"},
                ],
            },
        ]
    ),
    "root": json.dumps({"filesystems": [{"source": "/dev/vda2", "fstype": "ext4", "size": 6297497600, "used": 1}]}),
    "fstab": json.dumps(
        {
            "filesystems": [
                {"source": "UUID=aa", "target": "/", "options": "rw,discard"},
                {"source": "UUID=bb", "target": "/srv/a", "options": "defaults,nofail"},
                {"source": "/dev/sdb1", "target": "none", "options": "sw,nofail,x-systemd.device-timeout=10s"},
            ]
        }
    ),
    "root-devices": json.dumps(
        {
            "blockdevices": [
                {
                    "name": "vda2",
                    "type": "part",
                    "size": 6440336896,
                    "children": [{"name": "vda", "type": "disk", "size": "6442450944"}],
                }
            ]
        }
    ),
    "devices": json.dumps({"blockdevices": [{"name": "vda", "type": "disk", "size": 6442450944}]}),
    "host-keys": "1795408541 /etc/ssh/ssh_host_ed25519_key.pub\nnonsense",
    "journal": "Timed out waiting for device dev-sdb1.device - /dev/sdb1.",
    "end": "",
}


def test_the_answers_of_a_debian_are_understood() -> None:
    assert parsed(ANSWERS) == Facts(
        user="debian",
        clock=1795408549.0,
        system_state="degraded",
        uptime=95.51,
        failed_units=("cloud-config.service",),
        jobs=("dev-sdb1.device start running",),
        cloud_init=CloudInit(
            installed=True,
            done=True,
            datasource="DataSourceOpenStackLocal [net,ver=2]",
            errors=("('locale', X())",),
            warnings=("util.py[WARNING]: Running module locale failed",),
            finished=1795408559.3318055,
        ),
        addresses=(Address("ens3", "c2:8d:df:25:94:84", "10.0.2.15", True),),
        root_source="/dev/vda2",
        root_type="ext4",
        root_size=6297497600,
        root_device=Device("vda2", "part", 6440336896, (Device("vda", "disk", 6442450944),)),
        disks=(Device("vda", "disk", 6442450944),),
        host_keys={"ssh_host_ed25519_key.pub": 1795408541.0},
        waited_for=("Timed out waiting for device dev-sdb1.device - /dev/sdb1.",),
        optional=frozenset({"/dev/disk/by-uuid/bb", "/srv/a", "/dev/sdb1"}),
    )


def test_the_script_runs_in_a_posix_shell_and_answers_everything_that_this_machine_knows(run: Run) -> None:
    script = new_script(wait_s=1)
    output = run.tool(["sh", "-c", script.text], timeout=30).stdout
    texts = sections(output, script.mark)
    assert [*texts] == re.findall(r"^part ([\w-]+)", script.text, re.MULTILINE)
    facts = parsed(texts)
    assert facts.user == run.tool(["id", "-un"]).text.strip()
    assert facts.uptime is not None
    assert facts.root_size is not None
    assert facts.clock is not None


def test_a_guest_that_prints_headings_of_its_own_cannot_answer_for_the_script() -> None:
    script = new_script(1)
    output = f"motd\n@{'0' * 24} failed\nnone\n\n{script.mark} failed\nbad.service\n\n{script.mark} end\n".encode()
    assert sections(output, script.mark) == {"failed": "bad.service", END: ""}


def test_an_answer_that_was_cut_off_lacks_its_last_section() -> None:
    output = b"\n@m hello\nroot\n1\n\n@m failed\nhalf of it"
    assert sections(output, "@m") == {"hello": "root\n1"}


NAMES = st.sampled_from(sorted(ANSWERS))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["v1", "filesystems", "blockdevices", "children", "size", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, st.text(max_size=60) | VALUES.map(json.dumps), max_size=6))
def test_no_answer_of_a_guest_breaks_the_parsing(answers: dict[str, str]) -> None:
    assert isinstance(parsed(answers), Facts)


def test_json_that_nests_for_ever_counts_as_not_said() -> None:
    assert parsed({"devices": "[" * 100_000}) == Facts()
    nested: object = {"name": "x", "children": []}
    for _ in range(50):
        nested = {"name": "x", "type": "disk", "size": 1, "children": [nested]}
    assert len([*parsed({"devices": json.dumps({"blockdevices": [nested]})}).disks[0].walk()]) == 9

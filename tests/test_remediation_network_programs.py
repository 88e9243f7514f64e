"""What the renderers themselves say of the files that we write: their parsers, and, in a network of its own, the address that they get."""

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.guests import guest, names
from migrate.draft import Draft
from migrate.guests.memory import MemoryGuest
from migrate.run import Run
from remediations import shell_variables
from remediations.mac_addresses import strip_macs
from remediations.network import dhcpcd, keyfiles, network_by_dhcp, networkd, networkmanager
from remediations.network.live import IFCFG, IFUPDOWN, KEYFILES, NETPLAN, WICKED, Renderer, live
from tests.network_room import ADDRESS, PREFIX, SERVER, outcome, written
from tests.remediation_guests import applied

NETWORK = re.compile("-net-|-ifupdown-|-netplan-|-networkd-|-keyfiles|-ifcfg|-network-")


def of(renderer: Renderer) -> list[str]:
    """Return the guests whose trap is the network, and whose cards a renderer brings up."""
    return [name for name in names() if NETWORK.search(name) and live(Draft(guest(name))) is renderer]


def after(run: Run, name: str) -> MemoryGuest:
    return applied(run, guest(name), network_by_dhcp, strip_macs)


# ifupdown


@pytest.mark.parametrize("name", of(IFUPDOWN))
def test_ifquery_reads_what_ifupdown_gets(run: Run, tmp_path: Path, name: str) -> None:
    folder = written(after(run, name), tmp_path, "/etc/network")
    (folder / "etc/network/interfaces.d").mkdir(exist_ok=True)
    (folder / "etc/network/interfaces.d/50-cloud-init").write_text("auto ens3\niface ens3 inet dhcp\n")
    ifquery = ["ifquery", "-i", str(folder / "etc/network/interfaces")]
    listed = subprocess.run([*ifquery, "--list"], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    ours = "eth0" if name.startswith("alpine") else "magalu"
    known = subprocess.run([*ifquery, ours], capture_output=True, text=True, check=False)
    assert (known.returncode, known.stderr) == (0, "")


def test_networkings_drop_in_is_sound(run: Run, tmp_path: Path) -> None:
    folder = written(after(run, "debian12-ifupdown-static"), tmp_path, "/etc/systemd/system/networking.service.d")
    unit = folder / "etc/systemd/system/networking.service"
    unit.write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert str(folder) not in said.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "card", "cloud_init", "state"),
    [
        ("debian12-ifupdown-static", "ens3", "", "ens3=magalu"),
        ("debian12-ifupdown-static", "eth0", "", "eth0=magalu"),
        ("debian12-net-ifupdown-many", "ens3", "", "ens3=magalu"),
        ("debian9-net-ifupdown-old", "eth0", "", "eth0=magalu"),
        ("debian9-net-ifupdown-old", "eth0", "auto eth0\niface eth0 inet dhcp\n", "eth0=eth0"),
        ("debian12-ifupdown-static", "enp1s0", "auto enp1s0\niface enp1s0 inet dhcp\n", "enp1s0=enp1s0"),
        ("debian12-ifupdown-static", "ens3", "allow-hotplug ens3\niface ens3 inet dhcp\n", "ens3=magalu"),
    ],
)  # fmt: skip
def test_ifupdown_brings_a_new_card_up_exactly_once(
    run: Run, tmp_path: Path, name: str, card: str, cloud_init: str, state: str
) -> None:
    folder = written(after(run, name), tmp_path, "/etc/network")
    (folder / "etc/network/interfaces.d").mkdir(exist_ok=True)
    if cloud_init:
        (folder / "etc/network/interfaces.d/50-cloud-init").write_text(cloud_init)
    interfaces = f"--interfaces={folder}/etc/network/interfaces"
    found = outcome(
        folder,
        f"ifup {interfaces} --all",
        card,
        ask=f"while pgrep -x ifup >/dev/null; do sleep 0.1; done; ifquery {interfaces} --state {card}; pgrep --count --exact dhclient; "
        f"ifdown {interfaces} --force {card} >/dev/null 2>&1; true",
    )
    assert found.asked.split() == [state, "1"]
    assert found.leases == 1
    assert found.resolv.split() == ["nameserver", SERVER]


# netplan


@pytest.mark.parametrize("name", of(NETPLAN))
def test_netplan_makes_dhcp_of_what_is_left_and_of_what_cloud_init_adds(run: Run, tmp_path: Path, name: str) -> None:
    folder = written(after(run, name), tmp_path, "/etc/netplan", "/usr/lib/netplan", "/lib/netplan")
    cloud = "network: {version: 2, ethernets: {ens3: {match: {macaddress: fa:16:3e:00:00:01}, set-name: ens3, dhcp4: true}}}\n"
    (folder / "etc/netplan/50-cloud-init.yaml").write_text(cloud)
    subprocess.run(["netplan", "generate", "--root-dir", str(folder)], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (folder / "run/systemd/network").glob("*.network")}
    for pattern in ("en", "eth"):
        text = made[f"10-netplan-zz-magalu-{pattern}.network"]
        assert {f"Name={pattern}*", "DHCP=yes", "ClientIdentifier=mac"} <= set(text.splitlines())
        assert "RequiredForOnline" not in text
    ours = {f"10-netplan-zz-magalu-{pattern}.network" for pattern in ("en", "eth")}
    others = "".join(text for file, text in made.items() if file not in {*ours, "10-netplan-ens3.network"})
    assert "Name=e" not in others
    assert min(sorted(made)) != sorted(ours)[0] or len(made) == 2


# NetworkManager


def test_nmcli_reads_the_profile() -> None:
    command = ["nmcli", "--offline", "connection", "modify", "connection.zone", ""]
    read = subprocess.run(command, input=keyfiles.DHCP, capture_output=True, text=True, check=True)
    kept = [line for line in keyfiles.DHCP.splitlines() if line and not line.startswith("#")]
    assert [line for line in read.stdout.splitlines() if line in kept] == kept


@pytest.mark.parametrize("name", [name for name in of(KEYFILES) if name != "ubuntu2004-net-desktop"])
def test_networkmanager_reads_settings_under_which_it_takes_cards(run: Run, tmp_path: Path, name: str) -> None:
    folder = written(after(run, name), tmp_path, "/etc/NetworkManager", "/usr/lib/NetworkManager")
    shown = settings_of(folder)
    unmanaged = shown.get("keyfile", "unmanaged-devices", fallback="")
    assert not networkmanager.leaves_cards(f"[keyfile]\nunmanaged-devices={unmanaged}\n")
    assert not any(shown.get(section, "managed", fallback="1") in ("0", "false") for section in shown.sections())
    assert shown.get("main", "dns", fallback="") != "none"


def settings_of(folder: Path) -> configparser.ConfigParser:
    """Return the settings as NetworkManager reads them from a guest's files."""
    base = folder / "etc/NetworkManager"
    base.mkdir(parents=True, exist_ok=True)
    (base / "NetworkManager.conf").touch()
    command = [
        "NetworkManager",
        "--print-config",
        f"--config={base}/NetworkManager.conf",
        f"--config-dir={base}/conf.d",
        f"--system-config-dir={folder}/usr/lib/NetworkManager/conf.d",
        f"--intern-config={folder}/intern.conf",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stderr == ""
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.read_string(said.stdout)
    return found


NETWORKMANAGER = "dbus-daemon --system --nopidfile --fork; NetworkManager --debug"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rocky9-keyfiles", "fedora40-net-keyfiles-odd", "rhel8-net-both-services"])
def test_networkmanager_brings_up_a_card_of_any_name_with_both_families(run: Run, tmp_path: Path, name: str) -> None:
    folder = written(after(run, name), tmp_path, "/etc/NetworkManager")
    found = outcome(folder, NETWORKMANAGER, "ens3", ask="nmcli --terse --fields NAME,DEVICE connection show --active")
    assert [address[: len(ADDRESS)] for address in found.addresses["ens3"] if "." in address] == [ADDRESS]
    assert any(address.startswith(PREFIX) for address in found.addresses["ens3"])
    assert "magalu-migrate:ens3" in found.asked.split()
    assert found.leases == 1


@pytest.mark.slow
def test_networkmanager_without_our_settings_would_have_left_the_card_alone(run: Run, tmp_path: Path) -> None:
    """Without this the test above could not fail: with the guest's own settings nothing comes up."""
    untouched = guest("fedora40-net-keyfiles-odd")
    folder = written(untouched, tmp_path, "/etc/NetworkManager/conf.d")
    found = outcome(folder, NETWORKMANAGER, "ens3", ask="true")
    assert found.addresses["ens3"] == ()


# systemd-networkd

NETWORKD_PROGRAM = "/lib/systemd/systemd-networkd"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("debian12-net-networkd-layers", "ens3"),
        ("debian12-networkd-cloud", "enp0s3"),
        ("photon3-net-networkd", "eth0"),
        ("amzn2023-net-nothing", "ens5"),
        ("debian12-net-three-renderers", "ens3"),
    ],
)  # fmt: skip
def test_networkd_brings_up_a_new_card_with_both_families_and_the_boot_does_not_wait_for_a_dead_one(
    run: Run, tmp_path: Path, name: str, card: str
) -> None:
    changed = after(run, name)
    folder = written(changed, tmp_path, "/etc/systemd/network", "/etc/systemd/system/systemd-networkd-wait-online")
    any_card = "--any" if networkd.WAIT_DROP_IN in changed.tree else ""
    found = outcome(
        folder,
        NETWORKD_PROGRAM,
        card,
        "eth9",
        ask=f"timeout 10 /lib/systemd/systemd-networkd-wait-online {any_card}; echo waited $?",
    )
    assert [address[: len(ADDRESS)] for address in found.addresses[card] if "." in address] == [ADDRESS]
    assert any(address.startswith(PREFIX) for address in found.addresses[card])
    assert found.asked.splitlines()[-1] == ("waited 0" if any_card else "waited 124")
    assert found.leases == 1
    assert "90-magalu-migrate.network:" not in found.said  # so begins what it says of a line that it does not know


def test_the_drop_in_for_waiting_is_sound(run: Run, tmp_path: Path) -> None:
    changed = after(run, "debian12-net-networkd-layers")
    folder = written(changed, tmp_path, f"/etc/systemd/system/{networkd.WAIT}.d")
    unit = folder / f"etc/systemd/system/{networkd.WAIT}"
    unit.write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert str(folder) not in said.stderr


# dhcpcd


@pytest.mark.slow
def test_dhcpcd_asks_on_a_card_that_it_was_told_to_leave_alone(run: Run, tmp_path: Path) -> None:
    folder = written(after(run, "arch-net-dhcpcd"), tmp_path, dhcpcd.CONFIG)
    found = outcome(folder, "dhcpcd --nodev --config $home/etc/dhcpcd.conf --nobackground", "eth0")
    assert [address[: len(ADDRESS)] for address in found.addresses["eth0"] if "." in address] == [ADDRESS]
    assert any(address.startswith(PREFIX) for address in found.addresses["eth0"])


# What only a shell reads


@pytest.mark.parametrize("name", [*of(IFCFG), *of(WICKED)])
def test_files_of_assignments_are_sound_for_a_shell(run: Run, tmp_path: Path, name: str) -> None:
    """No distribution of this machine's has wicked or initscripts: bash reads the files as their scripts do."""
    folder = written(after(run, name), tmp_path, "/etc/sysconfig/network")
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name.startswith(("ifcfg-", "config", "dhcp", "network"))
    ]
    for path in files:
        subprocess.run(["bash", "-n", str(path)], check=True)
    eth0 = next(path for path in files if path.name == "ifcfg-eth0")
    said = subprocess.run(
        ["bash", "-c", f"set -eu; . {eth0}; echo $BOOTPROTO"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "dhcp\n"


QUOTED = st.one_of(
    st.text("abc 10.#=;&|*~!éº'\"", max_size=8).map(shlex.quote),
    st.text("abc 10.#=;|*'", max_size=8).map('"{}"'.format),
    st.text("abc10.,:/@%+-", max_size=8),
)
ENDS = st.sampled_from(["\n", "\n", "\n\n", "; ", " ", "  # comment\n", "\n# NAME=x\n"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(st.tuples(st.sampled_from("ABCDEFG"), QUOTED, ENDS), min_size=1, max_size=8))
def test_assignments_are_read_as_bash_reads_them(tmp_path: Path, written: list[tuple[str, str, str]]) -> None:
    file = tmp_path / "ifcfg-ens192"
    file.write_text("".join(f"{name}={value}{end}" for name, value, end in written) + "\n")
    names = sorted({name for name, _, _ in written})
    shown = "; ".join(f'printf "%s\\0" "${name}"' for name in names)
    said = subprocess.run(
        ["bash", "-c", f". {file}; {shown}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    found = shell_variables.variables(file.read_text())
    assert [found[name] for name in names] == said.stdout.decode().split("\0")[:-1]

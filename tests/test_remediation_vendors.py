"""What other clouds leave in a guest goes, and what a package or the operator owns stays."""

import pytest
from pydantic import ValidationError

from fixtures.guests import guest
from migrate.effects import PackageEdit, Severity
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations.vendors import Vendor, leftover_removal, package_removal, vendor
from tests.remediation_guests import applied, done, outcome

VMWARE = vendor("vmware")
PACKAGES, LEFTOVERS = package_removal(VMWARE), leftover_removal(VMWARE)


def removed(to: MemoryGuest) -> list[str]:
    effects = done(to, PACKAGES).effects
    return [package.name for effect in effects if isinstance(effect, PackageEdit) for package in effect.change.remove]


def test_names_come_from_the_vendors() -> None:
    assert (PACKAGES.name, LEFTOVERS.name) == ("remove-vmware-packages", "remove-vmware-leftovers")


def test_packages_go_in_one_transaction_and_change_no_file() -> None:
    effects = done(guest("debian12-vmware"), PACKAGES).effects
    assert [type(effect) for effect in effects] == [PackageEdit]
    assert removed(guest("debian12-vmware")) == ["open-vm-tools"]


def test_a_metapackage_that_goes_along_is_noted_and_what_it_named_stays(run: Run) -> None:
    to = guest("ubuntu2204-vmware-lvm")
    changes = done(to, PACKAGES)
    assert removed(to) == ["open-vm-tools", "ubuntu-server"]
    assert [(finding.code, finding.severity) for finding in changes.findings] == [("VMW-001", Severity.NOTE)]
    assert {"cloud-guest-utils", "libmspack0"} <= set(applied(run, to, PACKAGES).packages)


def test_another_package_that_goes_along_is_warned_of_and_a_trap_is_left(run: Run) -> None:
    to = guest("debian11-vmware-tarball")
    assert removed(to) == ["backup-agent", "vmware-tools-foundation"]
    assert [finding.text for finding in done(to, PACKAGES).findings] == [
        "The package vmware-tools-libraries-nox stays: it provides libraries of the system, which must be replaced before it can go.",
        "backup-agent 7.1 goes with VMware's packages, because it depends on them.",
    ]


def test_what_a_package_owned_goes_with_it_and_only_the_rest_is_a_leftover(run: Run) -> None:
    to = guest("debian12-vmware")
    assert outcome(done(to, PACKAGES, LEFTOVERS)) == {
        "/etc/vmware-tools": None,
        "/var/log/vmware-vmsvc-root.log": None,
    }
    applied(run, to, PACKAGES, LEFTOVERS)
    assert not [path for path in to.tree if "vmware" in path or "vmtools" in path or "open-vm-tools" in path]


def test_an_agent_from_a_tarball_goes_with_its_units_masks_and_modules(run: Run) -> None:
    to = applied(run, guest("debian11-vmware-tarball"), PACKAGES, LEFTOVERS)
    left = [path for path in to.tree if "vmware" in path.lower() or "vmtoolsd" in path or "vmhgfs" in path]
    assert left == ["/var/log/vmware-audit", "/var/log/vmware-audit/README"]


def test_what_another_package_owns_stays_and_is_told() -> None:
    changes = done(guest("debian11-vmware-tarball"), PACKAGES, LEFTOVERS)
    assert changes.findings[-1].text == (
        "It looks like VMware's and belongs to others, so it stays: /var/log/vmware-audit (of log-tools)."
    )


def test_while_the_package_stays_so_do_its_files_and_its_units_are_masked() -> None:
    changes = done(guest("debian12-vmware"), LEFTOVERS)
    assert outcome(changes) == {
        "/etc/vmware-tools/tools.conf.old": None,
        "/var/log/vmware-vmsvc-root.log": None,
        "/etc/systemd/system/open-vm-tools.service": "-> /dev/null",
        "/etc/systemd/system/vgauth.service": "-> /dev/null",
    }


def test_a_guest_that_never_saw_vmware_is_left_alone() -> None:
    to = from_yaml(
        "packages: {vim: {files: [/usr/bin/vim]}}\nfiles: {/usr/bin/vmware-view: horizon, /var/lib/vmware-view/x: x}\n"
    )
    assert done(to, PACKAGES, LEFTOVERS).effects == ()
    assert done(to, PACKAGES, LEFTOVERS).findings == ()


def test_a_link_goes_and_what_it_leads_to_stays(run: Run) -> None:
    to = applied(run, guest("debian12-links-out"), LEFTOVERS)
    assert to.names("/etc/cloud") == ("cloud.cfg", "cloud.cfg.d", "ds-identify.cfg")
    assert "shadow" in to.names("/etc")


def test_a_file_of_a_merged_usr_is_owned_whichever_way_its_package_calls_it() -> None:
    text = "packages: {x: {files: [/lib/modules/6/misc/vmci.ko]}}\nfiles: {/lib/modules/6/misc/vsock.ko: x}\nusrmerge: true\n"
    assert outcome(
        done(from_yaml(text.replace("/lib/modules/6/misc/vsock", "/usr/lib/modules/6/misc/vsock")), LEFTOVERS)
    ) == {"/usr/lib/modules/6/misc/vsock.ko": None}


def test_another_vendor_is_only_data(run: Run) -> None:
    data = {
        "name": "Example Cloud",
        "code": "EX",
        "packages": ["example-agent*"],
        "units": ["example.service"],
        "leftovers": [{"why": "holds keys of Example Cloud", "paths": ["/var/lib/example"]}],
    }
    example = Vendor.model_validate(data)
    to = from_yaml(
        "packages: {example-agent-core: {files: [/usr/bin/example]}}\n"
        "files:\n  /var/lib/example/key: x\n  /etc/systemd/system/example.service: {link: /dev/null}\n"
    )
    changes = done(to, package_removal(example), leftover_removal(example))
    assert outcome(changes) == {
        "/var/lib/example": None,
        "/etc/systemd/system/example.service": None,
    }
    assert package_removal(example).name == "remove-example-cloud-packages"
    applied(run, to, package_removal(example), leftover_removal(example))


def test_a_word_that_is_no_setting_of_a_vendor_is_refused() -> None:
    with pytest.raises(ValidationError):
        Vendor.model_validate({"name": "X", "code": "X", "package": ["x"]})

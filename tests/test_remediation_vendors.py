"""What other clouds leave in a guest goes, and what a package or the operator owns stays."""

import re

import pytest
from pydantic import ValidationError

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.effects import Finding, PackageEdit, Removal, Severity
from migrate.errors import PackagesUnavailable
from migrate.guest import File, Kind, PackageChange
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.remediate import preview
from migrate.remediation import Settings
from migrate.run import Run
from remediations import BUILTIN, VENDORS
from remediations.vendors import (
    Vendor,
    absence_check,
    kernel_argument_removal,
    last_leftover_removal,
    last_package_removal,
    leftover_removal,
    package_removal,
    public_package_sources,
    unit_stop,
    vendor,
)
from remediations.vendors.traces import listed
from tests.remediation_guests import applied, done, outcome

VMWARE, AZURE = vendor("vmware"), vendor("azure")
PACKAGES, LEFTOVERS = package_removal(VMWARE), leftover_removal(VMWARE)
AZURES = (package_removal(AZURE), leftover_removal(AZURE))


def removed(to: MemoryGuest, of: Vendor = VMWARE) -> list[str]:
    effects = done(to, package_removal(of)).effects
    return [package.name for effect in effects if isinstance(effect, PackageEdit) for package in effect.change.remove]


def findings(to: MemoryGuest) -> tuple[Finding, ...]:
    draft = Draft(to)
    for each in BUILTIN:
        with draft.step(each.name):
            each.act(draft, Settings())
    return draft.changes.findings


def told(to: MemoryGuest, code: str) -> list[str]:
    return [finding.text for finding in findings(to) if finding.code == code]


# The data


def test_names_come_from_the_vendors() -> None:
    assert (PACKAGES.name, LEFTOVERS.name) == ("remove-vmware-packages", "remove-vmware-leftovers")


def test_a_word_that_is_no_setting_of_a_vendor_is_refused() -> None:
    with pytest.raises(ValidationError):
        Vendor.model_validate({"name": "X", "code": "X", "package": ["x"]})


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(ValidationError, match="is no regular expression"):
        Vendor.model_validate({"name": "X", "code": "X", "lines": [{"why": "x", "paths": [], "pattern": "("}]})


@pytest.mark.parametrize("each", VENDORS, ids=lambda each: each.slug)
def test_every_reason_of_a_vendor_completes_because_it(each: Vendor) -> None:
    whys = [group.why for group in each.leftovers] + [group.why for group in each.lists]
    whys += [group.why for group in each.lines] + [group.why for group in each.repositories]
    whys += [group.why for group in each.fstab]
    whys += [*each.kept_packages.values(), *each.told_packages.values(), *each.traces.values()]
    assert [why for why in whys if not re.match(r"\w*s\b", why) or why.endswith(".")] == []


@pytest.mark.parametrize("each", VENDORS, ids=lambda each: each.slug)
def test_no_pattern_of_a_vendor_takes_what_others_share(each: Vendor) -> None:
    patterns = [pattern for group in each.leftovers for pattern in group.paths]
    shared = ("/etc", "/usr/bin", "/usr/sbin", "/usr/lib", "/var/lib", "/var/log", "/opt", "/etc/pam.d", "/etc/cron.d")
    for pattern in patterns:
        assert pattern.startswith("/") and ".." not in pattern and not pattern.endswith("/")
        assert pattern not in shared and not pattern.rpartition("/")[2].startswith("*.")
    assert not any(pattern.strip("*?") == "" for pattern in (*each.packages, *each.units, *each.last_packages))


# Packages


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


def test_what_would_drag_the_systems_libraries_along_stays_with_them() -> None:
    to = guest("rhel8-vmware-osp")
    assert removed(to) == [
        "kmod-vmware-tools-vmci",
        "vmware-tools-core",
        "vmware-tools-esx-nox",
        "vmware-tools-services",
    ]
    assert [finding.text for finding in done(to, PACKAGES).findings] == [
        "The package vmware-tools-libraries-nox stays: it provides libraries of the system, which must be replaced before it can go.",
        "The package vmware-tools-foundation stays: it is needed by vmware-tools-libraries-nox, which provides libraries of the system, "
        "which must be replaced before it can go.",
    ]


def test_azures_agent_goes_under_all_of_its_names() -> None:
    names = {
        "ubuntu2204-azure-marketplace": ["walinuxagent"],
        "debian12-azure-unowned": ["hyperv-daemons", "waagent"],
        "rhel9-azure-rhui": ["WALinuxAgent", "WALinuxAgent-udev", "azure-vm-utils", "hypervkvpd"],
        "sles15-azure-payg": ["hyper-v", "python-azure-agent-config-server", "python3-azure-agent"],
    }
    assert {name: removed(guest(name), AZURE) for name in names} == names


def test_the_kernel_that_azure_brought_stays_with_what_brings_its_updates(run: Run) -> None:
    to = applied(run, guest("ubuntu2204-azure-marketplace"), *AZURES)
    assert {"linux-azure", "linux-image-azure", "linux-cloud-tools-azure"} <= set(to.packages)
    assert to.kind("/etc/systemd/system/hv-kvp-daemon.service") is Kind.LINK


def test_what_would_drag_a_kernel_along_stays() -> None:
    text = "packages: {hyperv-daemons: {}, linux-azure: {depends: [hyperv-daemons]}, walinuxagent: {}}\n"
    assert removed(from_yaml(text), AZURE) == ["walinuxagent"]


def test_agents_that_the_user_decides_about_stay_and_are_told() -> None:
    to = guest("alma8-azure-source")
    assert told(to, "AZ-004") == [
        "mdatp 101.24042.0002-1 stays: it is Microsoft Defender, which may be licensed through Azure.",
        "omsagent 1.19.0-0 stays: it sends logs and metrics to Azure, and fails where it may not any more.",
    ]
    assert removed(to, AZURE) == []


class Unmanaged(MemoryGuest):
    """A guest whose package manager nobody knows."""

    def plan_packages(
        self, *, install: tuple[str, ...] = (), remove: tuple[str, ...] = (), renew: tuple[str, ...] = (), **_: object
    ) -> PackageChange:
        raise PackagesUnavailable("packages of Photon OS cannot be changed", hint="Do it in the source before.")


def test_where_packages_cannot_be_changed_they_stay_their_units_are_masked_and_it_is_told() -> None:
    unit = "[Service]\nExecStart=/usr/bin/vmtoolsd\n"
    held = from_yaml(
        f"packages: {{open-vm-tools: {{files: {{/usr/lib/systemd/system/vmtoolsd.service: {unit!r}}}}}}}\n"
    )
    held.__class__ = Unmanaged
    changes = done(held, PACKAGES, LEFTOVERS)
    assert outcome(changes) == {"/etc/systemd/system/vmtoolsd.service": "-> /dev/null"}
    assert [finding.text for finding in changes.findings] == [
        "open-vm-tools stay, because they cannot be removed here: packages of Photon OS cannot be changed. Their units are masked."
    ]
    assert changes.findings[0].remedy == "Do it in the source before."


# Files


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


def test_a_circle_of_links_where_a_vendor_leaves_things_is_passed_by() -> None:
    to = from_yaml("files: {/etc/vmware-tools: {link: vmware-tools}, /var/log/azure: {link: azure}}\n")
    assert outcome(done(to, LEFTOVERS, *AZURES)) == {}


def test_what_python_compiled_of_a_package_is_left_to_its_scripts() -> None:
    to = from_yaml(
        "packages: {walinuxagent: {files: [/usr/lib/python3/dist-packages/azurelinuxagent/agent.py]}}\n"
        "files: {/usr/lib/python3/dist-packages/azurelinuxagent/__pycache__/agent.cpython-311.pyc: x}\n"
    )
    assert outcome(done(to, *AZURES)) == {}


def test_what_is_neither_file_nor_folder_is_passed_by_unless_its_folder_goes() -> None:
    to = from_yaml("files: {/var/log/vmware-x: {other: true}, /etc/systemd/system/waagent.service: {other: true}}\n")
    assert outcome(done(to, LEFTOVERS, *AZURES)) == {}


def test_secrets_go_as_paths_and_nothing_of_them_is_shown() -> None:
    for name in ("ubuntu2204-azure-marketplace", "debian12-azure-unowned", "sles12-vmware-kmp", "sles15-azure-payg"):
        to = guest(name)
        effects = done(to, *(package_removal(each) for each in VENDORS), *(leftover_removal(each) for each in VENDORS))
        assert any(isinstance(effect, Removal) for effect in effects.effects)
        assert "segredo" not in repr(effects)
        held = [entry for path, entry in to.tree.items() if isinstance(entry, File) and b"segredo" in entry.content]
        assert held, f"{name} shows no secret"


# Units


def test_units_that_the_agent_wrote_by_itself_go_though_no_package_owns_them(run: Run) -> None:
    to = applied(run, guest("debian12-azure-unowned"), *AZURES)
    units = [path for path in to.tree if "systemd/system/" in path and to.kind(path) is not Kind.FOLDER]
    assert units == ["/etc/systemd/system/nota.service"]


def test_a_unit_whose_program_lay_in_the_agents_folder_goes_and_says_so() -> None:
    effects = done(guest("debian12-azure-unowned"), *AZURES).effects
    whys = {effect.path: effect.why for effect in effects if isinstance(effect, Removal)}
    assert whys["/etc/systemd/system/metricas.service"] == (
        "starts /var/lib/waagent/Microsoft.Metricas-1.2/bin/agente.py, which was Azure's and is gone"
    )


def test_an_agent_from_its_source_goes_whole(run: Run) -> None:
    to = applied(run, guest("alma8-azure-source"), *AZURES)
    left = [path for path in to.tree if re.search(r"waagent|walinux|azure", path, re.IGNORECASE)]
    assert left == []


def test_a_template_goes_with_its_instances() -> None:
    example = Vendor.model_validate({"name": "X", "code": "X", "units": ["x@.service"]})
    to = from_yaml(
        "files:\n  /etc/systemd/system/x@.service: '[Service]'\n  /etc/systemd/system/y@.service: '[Service]'\n"
        "  /etc/systemd/system/a.wants/x@eth0.service: {link: ../x@.service}\n"
        "  /etc/systemd/system/a.wants/y@eth0.service: {link: ../y@.service}\n"
    )
    assert outcome(done(to, leftover_removal(example))) == {
        "/etc/systemd/system/x@.service": None,
        "/etc/systemd/system/a.wants/x@eth0.service": None,
    }


def test_links_of_units_go_before_their_packages_whether_or_not_a_script_knows_them() -> None:
    to = from_yaml(
        "packages: {open-vm-tools: {files: {/lib/systemd/system/open-vm-tools.service: '[Service]'}}}\n"
        "files:\n"
        "  /etc/systemd/system/multi-user.target.wants/open-vm-tools.service: {link: /lib/systemd/system/open-vm-tools.service}\n"
        "  /etc/systemd/system/vmtoolsd.service: {link: /lib/systemd/system/open-vm-tools.service}\n"
        "  /etc/systemd/system/network.target.wants/waagent-network-setup.service: {link: /nowhere}\n"
        "  /etc/systemd/system/walinuxagent.service: {link: /dev/null}\n"
        "  /etc/systemd/system/multi-user.target.wants/ssh.service: {link: /lib/systemd/system/ssh.service}\n"
    )
    assert outcome(done(to, unit_stop(VENDORS))) == {
        "/etc/systemd/system/multi-user.target.wants/open-vm-tools.service": None,
        "/etc/systemd/system/vmtoolsd.service": None,
        "/etc/systemd/system/network.target.wants/waagent-network-setup.service": None,
    }


def test_a_link_that_a_package_owns_goes_with_it() -> None:
    assert outcome(done(guest("debian12-vmware"), unit_stop(VENDORS))) == {}


def test_what_is_kept_is_told_at_the_end() -> None:
    example = Vendor.model_validate({"name": "X", "code": "X", "kept": {"/var/x/*": "is needed"}})
    changes = done(from_yaml("files: {/var/x/a: a}\n"), absence_check((example,)))
    assert [finding.text for finding in changes.findings] == ["Of X there is still: /var/x/a (it is needed)."]
    assert changes.effects == ()


def test_a_mask_of_a_unit_that_stays_is_kept() -> None:
    to = from_yaml(
        "packages: {open-vm-tools: {files: {/usr/lib/systemd/system/vmtoolsd.service: '[Service]'}}}\n"
        "files: {/etc/systemd/system/vmtoolsd.service: {link: /dev/null}}\n"
    )
    assert outcome(done(to, LEFTOVERS)) == {}


# Lists of installers


def test_an_installers_list_takes_what_lies_where_it_writes_and_nothing_else(run: Run) -> None:
    to = guest("centos6-vmware-tarball")
    found, refused = listed(Draft(to), VMWARE)
    assert [trace.path for trace in found] == [
        "/usr/lib/vmware-tools/sbin64/vmtoolsd",
        "/usr/bin/vmware-toolbox-cmd",
        "/usr/bin/vmware-hgfsmounter",
        "/etc/vmware-tools/tools.conf",
        "/usr/share/applications/vmware-user.desktop",
        "/etc/xdg/autostart/vmware user.desktop",
    ]
    assert refused == ("/etc/passwd", "/usr/bin/passwd", "/srv/nfe/vmware-chave.pem")
    applied(run, to, PACKAGES, LEFTOVERS)
    left = [path for path in to.tree if "vmware" in path or "vmci" in path or "vmhgfs" in path]
    assert left == ["/srv/nfe/vmware-chave.pem"]
    assert {"/etc/passwd", "/usr/bin/passwd"} <= set(to.tree)


def test_a_hostile_list_leads_nowhere(run: Run) -> None:
    to = guest("debian12-vmware-hostile-list")
    before = {path for path in to.tree if to.kind(path) is not Kind.FOLDER}
    applied(run, to, PACKAGES, LEFTOVERS)
    after = {path for path in to.tree if to.kind(path) is not Kind.FOLDER}
    assert before - after == {
        "/etc/vmware-tools/locations",
        "/usr/lib/vmware-tools",
        "/usr/bin/vmware-real",
        "/usr/bin/vmware-link",
    }
    assert to.load("/etc/hosts") == File(b"127.0.0.1 localhost\n")


def test_a_list_without_end_is_read_to_its_limit_only() -> None:
    to = from_yaml("files: {/usr/bin/vmware-x: x, /usr/bin/vmware-y: y}\n")
    text = b"file /usr/bin/vmware-x 1\n" + b"x" * (1 << 20) + b"\nfile /usr/bin/vmware-y 1\n"
    to.store("/etc/vmware-tools", from_yaml("files: {/a: {folder: true}}").load("/a"))
    to.store("/etc/vmware-tools/locations", File(text))
    assert [trace.path for trace in listed(Draft(to), VMWARE)[0]] == ["/usr/bin/vmware-x"]


# Repositories that only one cloud has


def test_rhui_goes_last_and_it_is_told_that_nothing_is_left(run: Run) -> None:
    rhui = vendor("rhui")
    steps = (
        package_removal(rhui),
        leftover_removal(rhui),
        public_package_sources(VENDORS),
        last_package_removal(rhui),
        last_leftover_removal(rhui),
    )
    assert removed(guest("rhel9-azure-rhui"), rhui) == []
    to = guest("rhel9-azure-rhui")
    changes = done(to, *steps)
    assert [finding.code for finding in changes.findings] == ["RHUI-005"]
    assert outcome(changes) == {
        "/etc/yum.repos.d/extra-rhui.repo": "[rhui-extra]\nenabled=0\nname=Extra\nmirrorlist=https://rhui-2.microsoft.com/mirror/extra\n",
        "/etc/dnf/vars/rhui_region": None,
        "/etc/pki/rhui": None,
    }
    applied(run, to, *steps)
    assert "rhui-azure-rhel9" not in to.packages


def test_rhui_goes_after_everything_that_installs() -> None:
    names = [each.name for each in BUILTIN]
    last = names.index("remove-rhui-registration")
    assert names.index("install-cloud-init") < last < names.index("remove-rhui-registration-leftovers")
    assert names.index("virtio-in-initramfs") < names.index("verify-absence")


def test_another_repository_is_enough_not_to_be_warned() -> None:
    assert told(guest("rhel9-azure-rhui"), "RHUI-005")
    to = guest("rhel9-azure-rhui")
    to.store("/etc/yum.repos.d/epel.repo", File(b"[epel]\nbaseurl=https://espelho.empresa.example/epel\n"))
    assert told(to, "RHUI-005") == []


def test_suses_registration_goes_with_its_comment_its_server_and_its_password(run: Run) -> None:
    to = guest("sles15-azure-payg")
    applied(run, to, *BUILTIN)
    assert to.load("/etc/hosts").text == "127.0.0.1\tlocalhost\n\n10.0.0.9\tnota.empresa.example\n"  # type: ignore[union-attr]
    assert [path for path in to.tree if "susecloud" in path or "regist" in path or "regionserver" in path] == []


def test_a_unit_whose_package_leaves_later_is_not_masked_before() -> None:
    changes = done(guest("sles15-azure-payg"), leftover_removal(vendor("suse_public_cloud")))
    assert "/etc/systemd/system/guestregister.service" not in outcome(changes)


# Kernel arguments


def test_only_arguments_of_another_cloud_go_from_the_kernels_command_line() -> None:
    words = "root=x rootdelay=300 rootwait earlyprintk=ttyS0 console=ttyS0 rd.emergency=poweroff rd.shell=0 rd.emergency=reboot vmw_pvscsi.x=1"
    to = from_yaml(f"files: {{/boot/grub/grub.cfg: 'linux /vmlinuz-6 {words}'}}\n")
    assert outcome(done(to, kernel_argument_removal(VENDORS))) == {
        "/boot/grub/grub.cfg": "linux /vmlinuz-6 root=x rootwait console=ttyS0 rd.emergency=reboot"
    }


def test_quotes_and_line_ends_of_dos_do_not_hide_an_argument() -> None:
    assert outcome(done(guest("centos7-azure-swap"), kernel_argument_removal(VENDORS))) == {
        "/etc/default/grub": "GRUB_CMDLINE_LINUX='console=ttyS0'\r\n"
    }


# Several vendors, and the last look


def test_several_vendors_leave_one_guest_and_what_two_claim_goes_once() -> None:
    to = guest("ubuntu2204-azure-three-clouds")
    draft = Draft(to)
    for each in BUILTIN:
        with draft.step(each.name):
            each.act(draft, Settings())
    removals = [effect.path for effect in draft.changes.effects if isinstance(effect, Removal)]
    assert len(removals) == len(set(removals))
    assert {"open-vm-tools", "walinuxagent", "ec2-instance-connect"} & set(draft.packages) == set()
    assert draft.read("/etc/apt/sources.list") == (
        "deb http://archive.ubuntu.com/ubuntu/ jammy main\n"
        "deb http://archive.ubuntu.com/ubuntu/ jammy-updates main\n"
        "deb http://security.ubuntu.com/ubuntu jammy-security main\n"
    )
    facts = {fact.name: fact.text for fact in draft.changes.facts}
    assert {"AWS", "Azure", "VMware"} <= set(facts["nothing is left of"].split(", "))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("ubuntu2004-azure-aad", []),
        ("centos7-azure-swap", []),
        (
            "ubuntu2204-azure-marketplace",
            [
                "Of Azure there is still: azure-cli (it lets people work with Azure from here); hv-kvp-daemon.service (masked, as its "
                "package stays)."
            ],
        ),
        (
            "rhel9-azure-rhui",
            ["Of Azure there is still: /etc/dracut.conf (names drivers of Hyper-V, which do nothing on another host)."],
        ),
    ],
)
def test_at_the_end_it_is_said_what_is_left_of_azure_and_why(name: str, left: list[str]) -> None:
    assert told(guest(name), "AZ-003") == left


def test_what_somebody_skips_is_found_at_the_end(run: Run) -> None:
    skip = frozenset({"remove-azure-packages", "remove-azure-leftovers", "forget-foreign-mounts"})
    changes = preview(run, guest("centos7-azure-swap"), BUILTIN, Settings(skip=skip))
    assert [finding.text for finding in changes.findings if finding.code == "AZ-003"] == [
        "Of Azure there is still: WALinuxAgent (it is still installed); /etc/systemd/system/mnt-swapfile.swap (it belongs to no package); "
        "/mnt/DATALOSS_WARNING_README.txt (it belongs to no package); waagent.service (its package stays); a line of /etc/fstab."
    ]


def test_the_last_look_changes_nothing(run: Run) -> None:
    for name in ("debian12-azure-unowned", "centos6-vmware-tarball"):
        assert preview(run, guest(name), (absence_check(VENDORS),), Settings()).effects == ()


def test_an_account_that_a_vendor_made_is_told_once_and_stays() -> None:
    example = Vendor.model_validate({"name": "X", "code": "X", "accounts": {"x-user": "was made by X"}})
    to = from_yaml('files: {/etc/passwd: "root:x:0:0::/root:/bin/sh\\nx-user:x:1001:1001::/home/x:/bin/sh\\n"}\n')
    changes = done(to, leftover_removal(example))
    assert changes.effects == ()
    assert [finding.text for finding in changes.findings] == ["The account x-user stays: it was made by X."]


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


def test_what_starts_the_agent_in_openrc_goes_with_it() -> None:
    assert outcome(done(guest("alpine320-vmware-extlinux"), *BUILTIN))["/etc/runlevels/default/open-vm-tools"] is None

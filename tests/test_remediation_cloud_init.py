"""cloud-init on Magalu Cloud: there, switched on, tied to no other cloud, told to leave the guest as it is."""

import pytest
import yaml

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.guest import File, Folder, Link, Os
from migrate.guests.memory import MemoryGuest
from migrate.remediation import Settings
from migrate.run import Run
from remediations import cloud_config
from remediations.cloud_init import (
    clear_foreign_datasources,
    configure_cloud_init,
    detecting,
    enable_cloud_init,
    reset_cloud_init_state,
    with_cloud_init,
)
from remediations.needed_packages import install_cloud_init
from remediations.ssh import make_host_keys_at_first_boot
from tests.remediation_guests import applied, codes, done, outcome

OURS = "/etc/cloud/cloud.cfg.d/99-magalu-migrate.cfg"


def configured(**files: str) -> MemoryGuest:
    """A guest whose /etc/cloud holds these files: main is cloud.cfg, all others are in cloud.cfg.d."""
    return MemoryGuest(
        {
            "/etc/cloud/cloud.cfg" if name == "main" else f"/etc/cloud/cloud.cfg.d/{name}.cfg": File(text.encode())
            for name, text in files.items()
        }
    )


def test_what_an_installer_and_a_team_wrote_is_untied_and_what_else_they_wrote_stays(run: Run) -> None:
    to = applied(run, guest("ubuntu2204-vmware-lvm"), clear_foreign_datasources)
    assert to.names("/etc/cloud/cloud.cfg.d") == ("20-disable-cc-dpkg-grub.cfg", "90_dpkg.cfg", "95-equipe.cfg")
    assert to.load("/etc/cloud/cloud.cfg.d/95-equipe.cfg").text == (  # type: ignore[union-attr]
        "# The operations team's own settings.\n"
        "timezone: America/Sao_Paulo\n"
        "\n"
        "# No network from cloud-init, we have netplan.\n"
        "growpart: {mode: 'off'}   # LVM\n"
        "resize_rootfs: false\n"
        "users: [{name: suporte, groups: [adm]}]\n"
    )
    assert "root=/dev/mapper/ubuntu--vg-ubuntu--lv ro quiet\n" in to.load("/boot/grub/grub.cfg").text  # type: ignore[union-attr]
    assert to.names("/var/lib/cloud/seed") == ()
    assert "cloud-init.disabled" not in to.names("/etc/cloud")
    assert "cloud-init-local.service" not in to.names("/etc/systemd/system")


def test_everything_but_a_drop_in_that_ties_it_down_is_untied(run: Run) -> None:
    to = applied(run, guest("debian12-uefi-pinned"), clear_foreign_datasources)
    texts = {path: entry.text for path, entry in to.tree.items() if isinstance(entry, File)}
    assert texts["/etc/cloud/cloud.cfg"] == (
        "# Ours, kept in git.\n"
        "users:\n"
        "  - default\n"
        "datasource:\n"
        "  # Azure knows the network.\n"
        "  Ec2: {strict_id: false}\n"
        "cloud_init_modules: [growpart, resizefs, users-groups, ssh]\n"
        "system_info: {default_user: {name: admin}, network: {renderers: [eni]}}\n"
    )
    assert "/etc/cloud/cloud.cfg.d/91-azure_datasource.cfg" not in texts
    assert texts["/etc/cloud/ds-identify.cfg"] == "# forced\npolicy: enabled\n"
    assert texts["/etc/systemd/system.conf"] == (
        '[Manager]\n#LogLevel=info\nDefaultEnvironment="LANG=C"\nDefaultTimeoutStopSec=30s\n'
    )
    assert texts["/etc/systemd/system.conf.d/10-cloud.conf"] == "[Manager]\n"
    assert 'GRUB_CMDLINE_LINUX="console=tty1 console=ttyS0 earlyprintk=ttyS0"\n' in texts["/etc/default/grub"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("datasource_list: [ Ec2, None ]\n", None),
        ("datasource_list: [OpenStack]\n", None),
        ("datasource_list:\n  - Azure\n", None),
        ("# by dpkg\ndatasource_list: [ NoCloud, ConfigDrive, OpenStack, Ec2, None ]\n", "kept"),
        ("datasource_list: '[OpenStack, ConfigDrive]'\n", "kept"),
        ("datasource: {OpenStack: {timeout: 5}}\n", "kept"),
        ("datasource: {OpenStack: {timeout: 5}, OVF: {}}\n", "datasource: {OpenStack: {timeout: 5}}\n"),
        ("datasource:\n  NoCloud:\n    seedfrom: http://10.0.0.1/\n", None),
        ("disable_vmware_customization: true\n", None),
        ("network:\n  version: 2\n  ethernets: {ens192: {addresses: [10.0.0.2/24]}}\n", None),
        ("system_info: {network: {renderers: [netplan]}}\n", "kept"),
        ("# only a comment\n", "kept"),
        ("", "kept"),
        ("vendor_data: {enabled: false}\n", "kept"),
    ],
)
def test_of_a_drop_in_goes_what_belongs_to_another_cloud(before: str, after: str | None) -> None:
    found = outcome(done(configured(x=before), clear_foreign_datasources))
    expected = {} if after == "kept" else {"/etc/cloud/cloud.cfg.d/x.cfg": after}
    assert found == expected


def test_cloud_cfg_itself_is_edited_and_never_removed_and_keeps_what_it_was_shipped_with() -> None:
    text = "disable_vmware_customization: false\n"
    assert outcome(done(configured(main=f"datasource_list: [Ec2]\n{text}"), clear_foreign_datasources)) == {
        "/etc/cloud/cloud.cfg": text
    }
    assert outcome(done(configured(main="datasource_list: [Ec2]\n"), clear_foreign_datasources)) == {
        "/etc/cloud/cloud.cfg": ""
    }


def test_a_network_that_was_set_there_is_kept_in_the_report() -> None:
    text = (
        "network: {version: 1, config: [{type: physical, name: eth0, subnets: [{type: static, address: 10.0.0.2}]}]}\n"
    )
    assert [fact.text for fact in done(configured(x=text), clear_foreign_datasources).facts] == [
        "{config: [{name: eth0, subnets: [{address: 10.0.0.2, type: static}], type: physical}], version: 1}"
    ]


def test_a_file_that_is_no_yaml_is_told_and_left() -> None:
    changes = done(configured(x="datasource_list: [Azure\n"), clear_foreign_datasources)
    assert changes.effects == ()
    assert [finding.text for finding in changes.findings] == [
        "/etc/cloud/cloud.cfg.d/x.cfg cannot be read (line 2: expected ',' or ']', but got '<stream end>'), "
        "so it is not known what it says to cloud-init; it is left as it is."
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("datasource: Ec2\n", ""),
        ("# x\ndatasource: Ec2\npolicy: disabled\n", ""),
        (
            "policy: search,found=all,maybe=all,notfound=disabled\n",
            "policy: search,found=all,maybe=all,notfound=disabled\n",
        ),
        ("policy: enabled\ndatasource: Azure\n", "policy: enabled\n"),
        ("# only words\n", "# only words\n"),
    ],
)
def test_ds_identify_is_left_to_detect(before: str, after: str) -> None:
    assert detecting(before) == after


def test_other_words_of_systemds_environment_stay() -> None:
    text = '[Manager]\nDefaultEnvironment=A=1 \\\n  "CLOUD_CFG=/x" B=2\nDefaultEnvironment=C=3\nLogLevel=info\n'
    assert with_cloud_init(text) == "[Manager]\nDefaultEnvironment=A=1 B=2\nDefaultEnvironment=C=3\nLogLevel=info\n"


def test_a_link_in_place_of_a_folder_of_state_goes_and_what_it_leads_to_stays(run: Run) -> None:
    to = applied(run, guest("debian12-links-out"), reset_cloud_init_state, clear_foreign_datasources)
    assert "fstab" in to.names("/etc")
    assert to.names("/var/lib/cloud") == ()


def test_cloud_init_forgets_the_instance_and_keeps_the_operators_scripts(run: Run) -> None:
    to = applied(run, guest("ubuntu2204-vmware-lvm"), reset_cloud_init_state)
    left = [path for path in to.tree if path.startswith("/var/lib/cloud/") and "/seed" not in path]
    assert left == [
        "/var/lib/cloud/data",
        "/var/lib/cloud/instances",
        "/var/lib/cloud/scripts",
        "/var/lib/cloud/scripts/per-boot",
        "/var/lib/cloud/scripts/per-boot/nosso.sh",
    ]
    assert not [name for name in to.names("/var/log") if name.startswith("cloud-init")]


PLAIN = """\
# Written by magalu-migrate: this machine was moved as it is, and cloud-init must not make another one of it.

# Applications, certificates and other machines know it by its name.
preserve_hostname: true

# Databases sort by it.
locale: 'false'

# The package sources are the machine's own.
apt:
  preserve_sources_list: true
"""


def test_a_moved_machine_keeps_its_name_language_and_package_sources() -> None:
    assert outcome(done(guest("debian12-vmware"), configure_cloud_init)) == {OURS: PLAIN}


def test_what_keeps_the_root_from_growing_or_the_key_out_is_set_right_above_it(run: Run) -> None:
    to = applied(run, guest("ubuntu2204-vmware-lvm"), configure_cloud_init)
    assert yaml.safe_load(to.load(OURS).text) == {  # type: ignore[union-attr]
        "preserve_hostname": True,
        "locale": "false",
        "apt": {"preserve_sources_list": True},
        "growpart": {"mode": "auto", "devices": ["/"]},
        "resize_rootfs": True,
        "grub_dpkg": {"enabled": True},
        "users": ["default", {"name": "suporte", "groups": ["adm"]}],
    }


@pytest.mark.parametrize(
    "name", ["ip-10-0-3-17", "ip-172-31-5-9.sa-east-1.compute.internal", "localhost.localdomain", ""]
)
def test_a_name_that_a_provider_gave_is_not_kept(name: str) -> None:
    to = MemoryGuest({"/etc/hostname": File(f"# name\n{name}\n".encode())})
    text = outcome(done(to, configure_cloud_init))[OURS]
    assert text is not None and "preserve_hostname" not in text


def test_a_datasource_that_is_forced_is_named_in_one_line_that_ds_identify_reads_and_is_not_cleared(run: Run) -> None:
    settings = Settings(force_datasource="OpenStack")
    to = applied(run, guest("debian12-vmware"), clear_foreign_datasources, configure_cloud_init, settings=settings)
    assert "\ndatasource_list: [ OpenStack, None ]\n" in to.load(OURS).text  # type: ignore[union-attr]


def test_switches_of_growth_are_turned_on(run: Run) -> None:
    to = configured(main="growpart: {mode: growpart, devices: [/srv]}\nresize_rootfs: noblock\n")
    to.store("/etc/growroot-disabled", File(b""))
    found = outcome(done(to, configure_cloud_init))
    assert found["/etc/growroot-disabled"] is None
    assert found[OURS] is not None and yaml.safe_load(found[OURS] or "")["growpart"]["devices"] == ["/"]
    assert "resize_rootfs" not in yaml.safe_load(found[OURS] or "")


def test_a_configuration_that_admits_nobody_or_lacks_a_module_is_told() -> None:
    main = "users: [{name: ops}]\ncloud_init_modules: [growpart, [resizefs, always], users_groups]\n"
    changes = done(configured(main=main), configure_cloud_init)
    assert codes(changes) == ["CLOUD-002", "CLOUD-003"]
    assert changes.findings[1].text == (
        "cloud-init's list of modules lacks ssh, without which the root does not grow or no key arrives."
    )


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("users: [default]\nsystem_info: {default_user: {name: debian}}\n", "debian"),
        ("users: 'default, ops'\nsystem_info: {default_user: {name: debian}}\n", "debian"),
        ("users: {default: true}\nsystem_info: {default_user: {name: debian}}\n", "debian"),
        ("users: [{name: ops, default: true}]\n", "ops"),
        ("user: ops\n", "ops"),
        ("users: [ops]\nsystem_info: {default_user: {name: debian}}\n", None),
        ("users: [default]\n", None),
        ("users: 7\nsystem_info: nothing\n", None),
        ("", None),
    ],
)
def test_who_gets_the_key(text: str, user: str | None) -> None:
    assert cloud_config.read(Draft(configured(main=text))).admits == user


def test_a_later_file_wins_and_mappings_are_joined() -> None:
    config = cloud_config.read(
        Draft(
            configured(
                main="a: {x: 1, y: 1}\nb: [1]\n", **{"10": "a: {y: 2}\n", "20": "b: [2]\na: {z: 3}\n", "30": "[broken"}
            )
        )
    )
    assert config.values == {"a": {"x": 1, "y": 2, "z": 3}, "b": [2]}


def test_units_that_are_there_are_linked_as_their_install_section_says() -> None:
    assert outcome(done(guest("debian12-uefi-pinned"), enable_cloud_init)) == {
        f"/etc/systemd/system/cloud-init.target.wants/{unit}": f"-> /usr/lib/systemd/system/{unit}"
        for unit in ("cloud-init-local.service", "cloud-init.service", "cloud-config.service", "cloud-final.service")
    }


def test_a_package_that_is_only_planned_is_left_to_enable_its_own_units() -> None:
    to = guest("debian12-vmware")
    assert done(to, install_cloud_init, enable_cloud_init).effects == done(to, install_cloud_init).effects


def test_after_it_is_applied_cloud_init_is_installed_and_enabled(run: Run) -> None:
    to = applied(run, guest("debian12-vmware"), configure_cloud_init, install_cloud_init, enable_cloud_init)
    link = to.load("/etc/systemd/system/cloud-init.target.wants/cloud-final.service")
    assert link == Link("/lib/systemd/system/cloud-final.service")
    assert to.load(OURS).text == PLAIN  # type: ignore[union-attr]


def test_amazon_linux_is_untied_from_ec2(run: Run) -> None:
    to = applied(
        run,
        configured(main="users: [default]\ndatasource_list: [ Ec2, None ]\nrepo_upgrade: security\n"),
        clear_foreign_datasources,
    )
    assert to.load("/etc/cloud/cloud.cfg").text == "users: [default]\nrepo_upgrade: security\n"  # type: ignore[union-attr]


@pytest.mark.parametrize("entry", [Link("/dev/null"), File(b"")])
def test_a_generator_that_is_switched_off_is_switched_on(run: Run, entry: Link | File) -> None:
    to = MemoryGuest({"/etc/systemd/system-generators/cloud-init-generator": entry})
    assert applied(run, to, clear_foreign_datasources).names("/etc/systemd/system-generators") == ()


def test_a_generator_of_the_operators_own_stays() -> None:
    to = MemoryGuest({"/etc/systemd/system-generators/cloud-init-generator": File(b"#!/bin/sh\n", 0o755)})
    assert done(to, clear_foreign_datasources).effects == ()


def test_what_cloud_init_remembers_is_not_taken_for_the_next_instance() -> None:
    text = outcome(done(configured(main="manual_cache_clean: true\n"), configure_cloud_init))[OURS]
    assert yaml.safe_load(text or "")["manual_cache_clean"] is False


def test_on_alpine_its_services_are_in_their_runlevels(run: Run) -> None:
    names = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")
    to = MemoryGuest({"/sbin/openrc": File(b""), **{f"/etc/init.d/{name}": File(b"", 0o755) for name in names}})
    to.store("/etc/runlevels", Folder())
    to.store("/etc/runlevels/default", Folder())
    to.store("/etc/runlevels/default/cloud-final", Link("/etc/init.d/cloud-final"))
    assert outcome(done(to, enable_cloud_init)) == {
        f"/etc/runlevels/{level}/{name}": f"-> /etc/init.d/{name}"
        for level, name in (("boot", "cloud-init-local"), ("default", "cloud-init"), ("default", "cloud-config"))
    }


def test_on_el_host_keys_are_made_where_cloud_init_should_and_does_not(run: Run) -> None:
    """EL keeps sshd-keygen@ from making keys while cloud-init is active, which then makes none where it fails."""
    drop_in = "/usr/lib/systemd/system/sshd-keygen@.service.d/disable-sshd-keygen-if-cloud-init-active.conf"
    condition = "[Unit]\nConditionPathExists=!/run/systemd/generator.early/multi-user.target.wants/cloud-init.target\n"
    to = applied(
        run,
        MemoryGuest({drop_in: File(condition.encode())}, os=Os("rocky", ("rhel",), "9.4")),
        make_host_keys_at_first_boot,
    )
    unit = to.load("/etc/systemd/system/magalu-migrate-host-keys.service").text  # type: ignore[union-attr]
    assert "ExecStart=/usr/bin/ssh-keygen -A\n" in unit
    assert "After=local-fs.target cloud-init.service" in unit and "cloud-init.target" not in unit
    assert to.names("/etc/systemd/system/multi-user.target.wants") == ("magalu-migrate-host-keys.service",)
    assert drop_in in to.tree

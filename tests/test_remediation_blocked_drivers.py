"""What somebody has forbidden the kernel, or told it about the old network."""

import pytest

from migrate.effects import RebuildRequest
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations.blocked_drivers import allowed, let_drivers_load, taken_along
from remediations.boot_arguments import forget_boot_address, of_the_old_network
from tests.remediation_guests import applied, codes, done, outcome


def with_grub(*arguments: str) -> MemoryGuest:
    lines = "".join(
        f"menuentry 'Debian' {{\\n\\tlinux /boot/vmlinuz-6.1.0 root=/dev/vda1{each}\\n}}\\n" for each in arguments
    )
    return from_yaml(f'files: {{/boot/vmlinuz-6.1.0: x, /boot/grub/grub.cfg: "{lines}"}}')


@pytest.mark.parametrize(
    "line",
    [
        *("blacklist virtio_net", "  blacklist virtio-blk  # hardening", "install virtio_blk /bin/true"),
        *("install virtio_pci /usr/bin/false", "install virtio_scsi /sbin/nologin", "alias virtio_net off"),
    ],
)
def test_a_line_that_forbids_a_driver_of_virtio_becomes_a_comment(line: str) -> None:
    assert allowed(f"blacklist pcspkr\n{line}\n") == f"blacklist pcspkr\n# magalu-migrate: needed on KVM: {line}\n"


@pytest.mark.parametrize(
    "line",
    [
        *("blacklist virtio_balloon", "blacklist pcspkr", "# blacklist virtio_net", "options virtio_net napi_tx=0"),
        *("install virtio_blk /sbin/modprobe --ignore-install virtio_blk", "blacklist", "install virtio_blk"),
    ],
)
def test_other_lines_stay(line: str) -> None:
    assert allowed(line) == line


def test_dracut_leaves_no_driver_of_virtio_out() -> None:
    assert taken_along('omit_drivers+=" virtio_blk floppy virtio-net "\n') == 'omit_drivers+=" floppy "\n'
    assert taken_along('omit_drivers+=" floppy "\n') == 'omit_drivers+=" floppy "\n'


def test_the_command_line_forbids_no_driver_of_virtio(run: Run) -> None:
    to = with_grub(" modprobe.blacklist=virtio_net,floppy rd.driver.blacklist=virtio-blk module_blacklist=nouveau")
    menu = applied(run, to, let_drivers_load).load("/boot/grub/grub.cfg").text  # type: ignore[union-attr]
    assert "root=/dev/vda1 modprobe.blacklist=floppy module_blacklist=nouveau\n" in menu


def test_an_initramfs_that_may_hold_the_line_is_built_anew() -> None:
    made = (
        "packages: {{initramfs-tools: {{}}}}\nkernels: {{6.1.0: {{modules: {{virtio_blk: []}}, initramfs: [virtio_blk]}}}}\n"
        'files: {{/etc/modprobe.d/vm.conf: "blacklist {}\\n"}}'
    )
    effects = done(from_yaml(made.format("virtio_blk")), let_drivers_load).effects
    assert any(isinstance(effect, RebuildRequest) for effect in effects)
    effects = done(from_yaml(made.format("virtio_net")), let_drivers_load).effects
    assert len(effects) == 1 and not isinstance(effects[0], RebuildRequest)


def test_a_line_of_a_package_is_told_and_stays() -> None:
    to = from_yaml('files: {/usr/lib/modprobe.d/vm.conf: "# x\\nblacklist virtio_net\\n"}')
    found = done(to, let_drivers_load)
    assert not found.effects and codes(found) == ["BOOT-012"]
    assert "/usr/lib/modprobe.d/vm.conf line 2" in found.findings[0].text


@pytest.mark.parametrize(
    ("word", "old"),
    [
        *(("ip=10.0.0.5::10.0.0.1:255.255.255.0:erp01:ens192:none", True), ("ip=10.0.0.5", True)),
        *(("ip=ens192:dhcp", True), ("ip=:::::ens192:dhcp", True), ("ip=[2001:db8::5]::::x:eth0:off", True)),
        *(("ip=dhcp", False), ("ip=eth0:dhcp", False), ("ip=off", False), ("ip=:::::eth0:dhcp", False)),
        *(("root=10.0.0.5:/srv", False), ("zip=10.0.0.5", False), ("ip=dhcp,dhcp6", False)),
    ],
)
def test_an_address_or_a_card_on_the_command_line_is_the_old_networks(word: str, old: bool) -> None:
    assert of_the_old_network(word) is old


def test_the_old_address_goes_from_the_command_line(run: Run) -> None:
    to = applied(run, with_grub(" ip=10.0.0.5::10.0.0.1:24:erp:ens192:none quiet"), forget_boot_address)
    assert "root=/dev/vda1 quiet\n" in to.load("/boot/grub/grub.cfg").text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("word", "code"),
    [
        *(("single", "BOOT-013"), ("systemd.unit=rescue.target", "BOOT-013"), ("systemd.unit=emergency", "BOOT-013")),
        *(("systemd.mask=ssh.service", "BOOT-014"), ("systemd.mask=cloud-init-local.service", "BOOT-014")),
    ],
)
def test_what_keeps_everybody_out_is_told_and_stays(word: str, code: str) -> None:
    found = done(with_grub(f" {word}", f" quiet {word}"), forget_boot_address)
    assert codes(found) == [code] and word in found.findings[0].text and outcome(found) == {}


def test_an_entry_for_recovery_is_nobodys_default() -> None:
    assert codes(done(with_grub(" quiet", " single"), forget_boot_address)) == []
    assert codes(done(with_grub(" systemd.unit=multi-user.target systemd.mask=tmp.mount"), forget_boot_address)) == []

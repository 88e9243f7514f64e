"""The options of a launch."""

import functools
from collections.abc import Callable
from typing import Any

import click

from migrate.target import LaunchOptions

LAUNCH_OPTIONS = (
    click.option("--launch", is_flag=True, help="Make an instance of the image, and wait until it runs."),
    click.option(
        "--ssh-key",
        metavar="NAME",
        help="For --launch: the SSH key of your account that may log in. With --sandbox a file KEY.pub will do.",
    ),
    click.option(
        "--machine-type",
        metavar="NAME",
        help="For --launch: e.g. BV4-8-100. Default: the smallest with the VM's processors, memory and disk.",
    ),
    click.option("--instance-name", metavar="NAME", help="For --launch: default is the VM's own name."),
    click.option("--vpc", metavar="NAME|ID", help="For --launch: default is the region's default VPC."),
    click.option(
        "--security-group",
        multiple=True,
        metavar="NAME|ID",
        help="For --launch: who reaches the instance; may be repeated. Default: the region's default group.",
    ),
    click.option("--zone", metavar="ZONE", help="For --launch: the availability zone, e.g. br-se1-a."),
    click.option("--no-public-ip", is_flag=True, help="For --launch: no public IPv4 address."),
    click.option("--no-tags", is_flag=True, help="For --launch: do not carry the VM's tags over as labels."),
)


def launch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a launch; it receives them as `launch`, None where none is wanted."""

    @functools.wraps(command)
    def with_options(
        *,
        launch: bool,
        ssh_key: str | None,
        machine_type: str | None,
        instance_name: str | None,
        vpc: str | None,
        security_group: tuple[str, ...],
        zone: str | None,
        no_public_ip: bool,
        no_tags: bool,
        **words: Any,
    ) -> None:
        options = LaunchOptions(
            ssh_key or "", machine_type, instance_name, vpc, security_group, zone, not no_public_ip, not no_tags
        )
        if launch and not options.ssh_key:
            raise click.UsageError("--launch needs --ssh-key NAME: an instance is reached by key only.")
        if not launch and options != LaunchOptions(""):
            raise click.UsageError("an option of the instance is given, and no --launch.")
        command(launch=options if launch else None, **words)

    for option in reversed(LAUNCH_OPTIONS):
        with_options = option(with_options)
    return with_options

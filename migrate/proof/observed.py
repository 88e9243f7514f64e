"""What was seen of one boot, from outside and from inside. Times are seconds since power-on."""

from dataclasses import dataclass, field

from migrate.proof.facts import Facts
from migrate.proof.metadata import Request


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the machine was given. Sizes in bytes."""

    mac: str
    datasource: str
    image_size: int
    disk_size: int
    root_grows: bool
    user: str | None
    instance: str = ""
    """The instance's id in its metadata."""


@dataclass(slots=True)
class Observed:
    """What is None, empty or False has not been seen."""

    firmware_at: float | None = None
    """Anything at all on the serial console."""
    kernel_at: float | None = None
    """A line of a Linux system on the serial console."""
    kernel: str = ""
    dhcp_asked_at: float | None = None
    dhcp_given_at: float | None = None
    address: str | None = None
    address_used_at: float | None = None
    spoke_as: tuple[str, ...] = ()
    packets: int = 0
    requests: tuple[Request, ...] = ()
    """`at` in seconds since power-on here."""
    banner_at: float | None = None
    banner: str = ""
    login_at: float | None = None
    user: str | None = None
    refused: list[str] = field(default_factory=list)
    """Users for whom the key was refused, in the order of the tries."""
    no_shell: list[str] = field(default_factory=list)
    """Users for whom the key was taken and no shell ran."""
    facts: Facts | None = None
    facts_at: float | None = None
    prompt_at: float | None = None
    """The login prompt of the present start, on the serial console or the screen."""
    cloud_init_said_done: bool = False
    resets: int = 0
    ended: str = ""
    """Why the boot was given up before everything was seen, in words."""
    dead: bool = False
    """The console shows that nothing more will come, or the machine is off."""
    console: str = ""
    screen: str = ""
    """The text on the VGA screen, when the serial console had been silent for a while."""

    @property
    def printed(self) -> str:
        """Everything that the guest showed: the screen only where it says more than the console."""
        if all(line.strip() in self.console for line in self.screen.splitlines()):
            return self.console
        return f"{self.console}\n\n[on the screen:]\n{self.screen}"

    @property
    def power_on_clock(self) -> float | None:
        """The guest's own clock at power-on, seconds since 1970, to within two seconds."""
        if self.facts is None or self.facts.clock is None or self.login_at is None:
            return None
        return self.facts.clock - self.login_at

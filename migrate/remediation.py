"""What a remediation is: a name, a wish, its sources, and a function that states on a Draft what should hold."""

from collections.abc import Callable
from dataclasses import dataclass

from migrate.draft import Draft


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may choose about repairs.

    `force_datasource` names the only datasource that cloud-init shall use, as it writes them ("OpenStack"); None leaves the
    choice to its detection. `reset_machine_id` is right wherever the source VM, or a second instance, lives on: two guests with
    one machine-id get one DHCP address (systemd#9609).
    """

    force_datasource: str | None = None
    reset_machine_id: bool = True
    skip: frozenset[str] = frozenset()


Act = Callable[[Draft, Settings], None]


@dataclass(frozen=True, slots=True)
class Remediation:
    """`name` is stable, in kebab-case; `title` completes "This will …"; `about` tells what, why and on which guests."""

    name: str
    title: str
    about: str
    sources: tuple[str, ...]
    act: Act


def remediation(name: str, title: str, *, sources: tuple[str, ...] = ()) -> Callable[[Act], Remediation]:
    """Make the decorated function a remediation. Its docstring is what `remediations explain` shows."""

    def made(act: Act) -> Remediation:
        about = " ".join((act.__doc__ or "").split())
        if not about:
            raise ValueError(f"remediation {name} does not explain itself: it has no docstring")
        return Remediation(name, title, about, sources, act)

    return made

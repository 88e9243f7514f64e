"""What a remediation is: a name, a wish, its sources, and a function that states on a Draft what should hold."""

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from migrate.draft import Draft
from migrate.errors import UsageError
from migrate.text import shown


class Profile(Enum):
    """What the image is for: which remediations are made without being asked for by name."""

    LIFT_AND_SHIFT = "lift-and-shift"
    """One machine moves: its name, users and data stay, and what must be unique becomes new."""
    GOLDEN_IMAGE = "golden-image"
    """Many machines are made of it: nothing that one machine was or did is left."""


EVERY_PROFILE = frozenset(Profile)
GOLDEN_ONLY = frozenset({Profile.GOLDEN_IMAGE})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may choose about repairs.

    `force_datasource` names the only datasource that cloud-init shall use, as it writes them ("OpenStack"); None leaves the
    choice to its detection. `reset_machine_id` is right wherever the source VM, or a second instance, lives on: two guests with
    one machine-id get one DHCP address (systemd#9609). `skip` and `ask` name remediations: what is skipped is never made, what is
    asked for is made although the profile leaves it out. `waive` holds codes of findings that the user accepts.
    """

    force_datasource: str | None = None
    reset_machine_id: bool = True
    skip: frozenset[str] = frozenset()
    profile: Profile = Profile.LIFT_AND_SHIFT
    ask: frozenset[str] = frozenset()
    waive: frozenset[str] = frozenset()


Act = Callable[[Draft, Settings], None]


@dataclass(frozen=True, slots=True)
class Remediation:
    """`name` is stable, in kebab-case; `title` completes "This will …"; `about` tells what, why and on which guests.

    `profiles` are those in which it is made without being asked for by name.
    """

    name: str
    title: str
    about: str
    sources: tuple[str, ...]
    act: Act
    profiles: frozenset[Profile] = EVERY_PROFILE

    def is_wanted(self, settings: Settings) -> bool:
        if self.name in settings.skip:
            return False
        return self.name in settings.ask or settings.profile in self.profiles


def remediation(
    name: str, title: str, *, sources: tuple[str, ...] = (), profiles: frozenset[Profile] = EVERY_PROFILE
) -> Callable[[Act], Remediation]:
    """Make the decorated function a remediation. Its docstring is what `remediations explain` shows."""

    def made(act: Act) -> Remediation:
        about = " ".join((act.__doc__ or "").split())
        if not about:
            raise ValueError(f"remediation {name} does not explain itself: it has no docstring")
        return Remediation(name, title, about, sources, act, profiles)

    return made


def chosen(remediations: Sequence[Remediation], settings: Settings) -> tuple[Remediation, ...]:
    """Return those that the settings want, in their order."""
    return tuple(remediation for remediation in remediations if remediation.is_wanted(settings))


def check_names(option: str, given: Collection[str], known: Collection[str], what: str, hint: str) -> None:
    """Each name that was given is known. Raise UsageError for the first that is not, with the nearest that there is."""
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        raise UsageError(
            f"{option} {shown(name)}: there is no {what} of that name" + (f"; the nearest is {near[0]}" * bool(near)),
            hint=hint,
        )

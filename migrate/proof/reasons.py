"""Why a proof does not hold, in words: the cause before its consequences."""

from collections.abc import Iterator

from migrate.proof import symptoms
from migrate.proof.observed import Observed
from migrate.proof.proof import Claim
from migrate.text import shown


def reasons(seen: Observed, checked: tuple[Claim, ...]) -> tuple[str, ...]:
    """Return the reasons; () where every claim that is needed holds."""
    failed = [claim for claim in checked if claim.needed and not claim.held]
    if not failed:
        return ()
    if seen.facts is not None:
        return tuple(f'"{claim.text}" does not hold: {claim.evidence}' for claim in failed)
    return tuple(dict.fromkeys(_of_a_boot_that_was_given_up(seen)))


def _of_a_boot_that_was_given_up(seen: Observed) -> Iterator[str]:
    yield from symptoms.found(seen.printed)
    if seen.ended:
        yield seen.ended
    if not seen.dead:  # else all that follows are consequences
        yield from _silence(seen)
        yield from _login(seen) if seen.banner_at is not None else _network(seen)


def _silence(seen: Observed) -> Iterator[str]:
    if seen.firmware_at is None:
        yield "there was no output at all, not even from the firmware."
    elif seen.kernel_at is None and not symptoms.ON_SCREEN.search(seen.screen):
        last = next((line.strip() for line in reversed(seen.printed.splitlines()) if line.strip()), "(none)")
        yield f"the kernel said nothing on the serial console; the last words were: {shown(last)[:200]}"
    if not seen.requests and "cloud-init" not in seen.printed.lower():
        yield "cloud-init gave no sign of life: it is missing or disabled."


def _login(seen: Observed) -> Iterator[str]:
    if seen.login_at is not None:
        yield f"the key logs in as {seen.user}, and the guest did not answer what it was asked."
        return
    if not seen.requests:
        yield (
            "it never asked the metadata service, so nobody was given the key: "
            "cloud-init is missing, disabled or pinned to another cloud."
        )
    if seen.refused:
        users = ", ".join(dict.fromkeys(seen.refused))
        yield f"sshd answers and refuses the key: Permission denied (publickey) for {users}."
    if seen.no_shell:
        yield f"sshd takes the key, and no shell runs for {', '.join(dict.fromkeys(seen.no_shell))}."


def _network(seen: Observed) -> Iterator[str]:
    if seen.address_used_at is not None:
        yield f"it has the address {seen.address}, and nothing answers on port 22: sshd is missing, disabled or behind a firewall."
    elif seen.dhcp_asked_at is not None:
        yield "it asked for an address and did not take the one that was offered."
    elif seen.spoke_as:
        yield f"it never asked for an address; it uses {', '.join(seen.spoke_as)}, fixed in its own network configuration."
    elif seen.packets:
        yield "it never asked for an address, though its network card works: nothing asks for DHCP on this card."
    else:
        yield "its network card stayed silent: no driver for virtio-net, or no interface is configured on this card."

"""What a remediation is, and what a code means, for people."""

from collections.abc import Iterator, Mapping, Sequence

from migrate.codes import Code
from migrate.effects import Severity
from migrate.lines import Line, wrapped
from migrate.remediation import Profile, Remediation


def listed(remediations: Sequence[Remediation]) -> Iterator[Line]:
    """Yield all remediations, with the profiles in which each is made without being asked for."""
    profiles = tuple(Profile)
    width = max(len(remediation.name) for remediation in remediations)
    heads = "  ".join(profile.value for profile in profiles)
    yield Line(f"{'':<{width}}  {heads}", "bold")
    for remediation in remediations:
        marks = "  ".join(
            f"{'yes' if profile in remediation.profiles else '-':<{len(profile.value)}}" for profile in profiles
        )
        yield Line(f"{remediation.name:<{width}}  {marks}  {remediation.title}")


def meaning(name: str, code: Code) -> Iterator[Line]:
    """Yield what a finding's code means, and what can be done about it."""
    yield Line(f"{name}: {code.title}", "bold cyan")
    yield Line()
    yield from wrapped("", code.about)
    yield from wrapped("", code.remedy)
    yield Line()
    yield from wrapped("  severity ", _severity_words(name, code))
    for by in code.by:
        yield from wrapped("  given by ", by)


def _severity_words(name: str, code: Code) -> str:
    match code.severity:
        case Severity.NOTE:
            return "note: nothing has to be done before the move"
        case Severity.WARNING:
            return f"warning: it is left to do; `vm --strict` stops at it, and --waive {name} accepts it"
        case Severity.ERROR if code.waivable:
            return f"error: the VM is refused. It may be accepted with --waive {name}, because {code.waivable}"
        case Severity.ERROR:
            return "error: the VM is refused, and this cannot be waived"


def explained(remediation: Remediation, codes: Mapping[str, Code]) -> Iterator[Line]:
    """Yield what a remediation does, why, on which guests, where we know it from, and what it may tell."""
    yield Line(f"{remediation.name}: {remediation.title[:1].lower()}{remediation.title[1:]}", "bold cyan")
    yield Line()
    yield from wrapped("", remediation.about)
    if remediation.sources:
        yield Line()
        for source in remediation.sources:
            yield from wrapped("  source   ", source)
    yield Line()
    yield from wrapped("  profiles ", ", ".join(p.value for p in Profile if p in remediation.profiles) or "none")
    if missing := [profile.value for profile in Profile if profile not in remediation.profiles]:
        yield from wrapped("           ", f"in {' and '.join(missing)} only with --ask {remediation.name}")
    for name, code in codes.items():
        if remediation.name in code.by:
            yield from wrapped(f"  {code.severity.value:<8} ", f"{name}  {code.title}")

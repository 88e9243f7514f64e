"""The SSH server's configuration as sshd reads it: which line really counts, and what it says.

For most keywords the first value wins; AllowUsers and its like, Port, ListenAddress and HostKey add up; what follows a Match
holds for some logins only; an Include's files stand in its place. Source: sshd_config(5).
"""

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.draft import Draft

MAIN = "/etc/ssh/sshd_config"
DEEPEST = 16
"""As many Includes as sshd follows inside of each other: servconf.c, SERVCONF_MAX_DEPTH."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One line. `keyword` is in lower case; `match` is the condition that it stands under, "" where it always holds."""

    path: str
    number: int
    keyword: str
    args: tuple[str, ...]
    match: str = ""

    def __str__(self) -> str:
        under = f" (Match {self.match})" if self.match else ""
        return f"{self.path}:{self.number}: {self.keyword} {' '.join(self.args)}{under}"


def parsed(line: str) -> tuple[str, tuple[str, ...]] | None:
    """Return a line's keyword in lower case and its arguments; None for a comment or an empty line."""
    found = re.match(r"\s*([A-Za-z][\w]*)(?:\s*=\s*|\s+|$)(.*)", line)
    if found is None:
        return None
    words: list[str] = []
    for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', found[2]):
        if plain.startswith("#"):
            break
        words.append(plain or quoted)
    return found[1].lower(), tuple(words)


def directives(draft: Draft, path: str = MAIN) -> tuple[Directive, ...]:
    """Return every directive in the order in which sshd reads them, files that are included in their place."""
    return tuple(_read(draft, path, "", 0))


def _read(draft: Draft, path: str, match: str, depth: int) -> Iterator[Directive]:
    for number, line in enumerate((draft.read(path) or "").splitlines(), 1):
        found = parsed(line)
        if found is None:
            continue
        keyword, args = found
        if keyword == "match":
            match = "" if args == ("all",) else " ".join(args)
        elif keyword == "include":
            for pattern in args if depth < DEEPEST else ():
                whole = pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"
                for inner in draft.glob(whole):
                    yield from _read(draft, inner, match, depth + 1)
        else:
            yield Directive(path, number, keyword, args, match)


def first(found: tuple[Directive, ...], keyword: str) -> Directive | None:
    """Return the line that counts for every login, of a keyword whose first value wins."""
    return next((each for each in found if each.keyword == keyword.lower() and not each.match), None)


def every(found: tuple[Directive, ...], *keywords: str) -> tuple[Directive, ...]:
    """Return the lines that hold for every login, of keywords that add up."""
    wanted = {keyword.lower() for keyword in keywords}
    return tuple(each for each in found if each.keyword in wanted and not each.match)


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of AllowUsers or AllowGroups names somebody who comes from anywhere. Source: ssh_config(5), PATTERNS."""
    user, at, host = pattern.partition("@")
    return fnmatch.fnmatchcase(name, user) and (not at or host == "*")


Lines = dict[str, dict[int, tuple[str, ...] | None]]
"""New arguments of lines, by path and number; None takes the line away."""


def with_lines(text: str, changes: dict[int, tuple[str, ...] | None]) -> str:
    """Return the text where the lines of these numbers have other arguments, or are gone."""
    pieces: list[str] = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if number not in changes:
            pieces.append(line)
            continue
        args = changes[number]
        if args is not None:
            indent, word = re.match(r"(\s*)([A-Za-z]\w*)", line).groups()  # type: ignore[union-attr]
            written = (f'"{arg}"' if " " in arg else arg for arg in args)
            pieces.append(f"{indent}{word} {' '.join(written)}\n")
    return "".join(pieces)


def change(lines: Lines, directive: Directive, args: tuple[str, ...] | None) -> None:
    lines.setdefault(directive.path, {})[directive.number] = args


def write(draft: Draft, lines: Lines, *, why: str) -> None:
    """The lines are as asked in every file."""
    for path, changes in lines.items():
        draft.edit(path, _changing(changes), why=why)


def _changing(changes: dict[int, tuple[str, ...] | None]) -> Callable[[str], str]:
    return lambda text: with_lines(text, changes)


USUAL_KEY_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")


def key_files(draft: Draft, user: str, home: str) -> tuple[str, ...]:
    """Return where a user's keys are: where sshd looks now, and where it looks by default.

    Source: sshd_config(5), AuthorizedKeysFile and TOKENS.
    """
    said = first(directives(draft), "AuthorizedKeysFile")
    paths = []
    for pattern in (*(said.args if said else ()), *USUAL_KEY_FILES):
        if pattern != "none":
            path = pattern.replace("%%", "\0").replace("%h", home).replace("%u", user).replace("\0", "%")
            paths.append(str(PurePosixPath(home) / path))
    return tuple(dict.fromkeys(paths))

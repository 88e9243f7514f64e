"""A batch file that was read: its entries with what holds for each, or every mistake in it at once, each at its place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from migrate import hidden
from migrate.batch import located
from migrate.batch.file_model import EntryWords, FileWords, LaunchWords, LimitsWords, Options, WindowWords, Words
from migrate.batch.file_paths import found_files
from migrate.batch.file_words import FOLDER, SECRETS_HINT, nearest, quoted
from migrate.batch.model import Limits, Window
from migrate.batch.template import is_fixed, rendered
from migrate.errors import FileWrong, Mistake, Place, UsageError
from migrate.source import VmRef
from migrate.target import LaunchOptions
from migrate.text import counted, one_line
from migrate.wiring.request import VmRequest, image_name
from migrate.wiring.sources import SourceOptions, is_live

Model = TypeVar("Model", bound=Words)
Step = str | int

_OF_SOURCE = tuple(SourceOptions.__slots__)
_OF_BATCH = ("priority", "not_before", "window")
_OF_ENTRY = ("source", "name", "tags", "leave_out")
MOST_KNOWN = 12
_SECRET = re.compile("(?i)senha|segredo|contrase|passwort|kennwort")


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of `vms` with the defaults in it. `request` holds for each of its VMs, but for address and name.

    `place` is where its source is written, `name_place` where its name is, or its source where it has none. `leave_out` and the
    values of `tags` are patterns.
    """

    place: Place
    name_place: Place
    source: str
    request: VmRequest
    template: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    leave_out: tuple[str, ...] = ()
    priority: int = 0
    not_before: datetime | None = None
    window: Window | None = None

    @property
    def is_live(self) -> bool:
        return is_live(self.source)

    def files(self) -> tuple[VmRef, ...]:
        """Return the VMs in files that it names, sorted by path. Raise UsageError where there are none."""
        return tuple(VmRef(str(path), path.stem) for path in found_files(Path("/"), self.source))

    def image(self, vm: str, *, day: date, batch: str, number: int) -> str:
        """Return the name of a VM's image."""
        if self.template is None:
            return image_name(vm)
        return rendered(self.template, name=vm, day=day, batch=batch, number=number)


@dataclass(frozen=True, slots=True)
class BatchFile:
    """`shown` is the file as the user named it."""

    shown: str
    name: str
    limits: Limits
    entries: tuple[Entry, ...]

    def wrong(self, mistakes: Sequence[Mistake]) -> FileWrong:
        return FileWrong(self.shown, mistakes)


def read(path: Path) -> BatchFile:
    """Read a batch file. No source is asked. Raise FileWrong with every mistake, UsageError where there is no such file."""
    shown = one_line(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}") from error
    root, mistakes = located.read(content)
    if root is None:
        raise FileWrong(shown, mistakes)
    reader = _Reader(shown, root, path.absolute().parent)
    reader.mistakes.extend(mistakes)
    batch = reader.batch()
    if reader.mistakes or batch is None:
        raise FileWrong(shown, tuple(dict.fromkeys(reader.mistakes)))
    return batch


class Once:
    """What must be in a batch once: VMs, and names of images. It is told at the second's place."""

    def __init__(self) -> None:
        self._vms: dict[str, Place] = {}
        self._images: dict[str, Place] = {}

    def takes(self, vm: str, place: Place) -> bool | Mistake:
        """Whether a VM is new; False where the same entry names it by two ways, which is one VM. A mistake where another entry has it."""
        first = self._vms.get(vm)
        if first is None:
            self._vms[vm] = place
            return True
        if first == place:
            return False
        hint = "Leave it out of one of them: `except` names what a pattern shall not take."
        return Mistake(place, f"{one_line(vm)} is in the batch already, by line {first.line}", hint)

    def image(self, name: str, place: Place) -> Iterator[Mistake]:
        """Yield a mistake where an image of this name is to be made already."""
        if name in self._images:
            first = self._images[name]
            where = "of the same entry" if first == place else f"in line {first.line}"
            hint = "A name with {name} or {number} in it differs from VM to VM."
            yield Mistake(place, f"the image {quoted(name)} would be made twice, first for a VM {where}", hint)
        else:
            self._images[name] = place


class _Reader:
    """Validates part by part, so that a mistake in one hides none in another."""

    def __init__(self, shown: str, root: located.Node, folder: Path) -> None:
        self.mistakes: list[Mistake] = []
        self._shown = shown
        self._root = root
        self._context = {FOLDER: str(folder)}

    def batch(self) -> BatchFile | None:
        if not isinstance(self._root, located.Mapping):
            self._wrong(self._root.place, "a batch file begins with keys: name, limits, defaults, vms")
            return None
        name = self._name(self._root)
        limits = self._part(LimitsWords, "limits")
        defaults = self._part(Options, "defaults") or Options()
        entries = [*self._entries(defaults)]
        self._twice(name, entries)
        return BatchFile(self._shown, name, _limits(limits), tuple(entries))

    def _name(self, root: located.Mapping) -> str:
        """Look at the keys at the top, and return the batch's name, or what stands for it where it has none."""
        plain: dict[str, Any] = {key: value.plain() for key, value in root.values.items()}
        known = {key: value for key, value in plain.items() if key not in ("limits", "defaults")}
        if isinstance(root.values.get("vms"), located.Items) and known["vms"]:
            known["vms"] = [{"source": "/"}]  # they are looked at one by one
        try:
            FileWords.model_validate(known, context=self._context)
        except ValidationError as error:
            self._told(error, FileWords, ())
        found = plain.get("name")
        return found if isinstance(found, str) and found else "batch"

    def _part(self, model: type[Model], key: str) -> Model | None:
        is_said = isinstance(self._root, located.Mapping) and key in self._root.values
        return self._validated(model, (key,)) if is_said else None

    def _entries(self, defaults: Options) -> Iterator[Entry]:
        items = located.at(self._root, ("vms",))
        for number, item in enumerate(items.items if isinstance(items, located.Items) else ()):
            path: tuple[Step, ...] = ("vms", number)
            if isinstance(item, located.Text) and item.is_void:
                continue
            words = self._validated(EntryWords, path)
            if words is None:
                continue
            self._contradictions(words, defaults, path)
            if words.tags and not is_live(words.source):
                self._wrong(located.key_place(self._root, (*path, "tags")), "a file has no tags; live sources have")
            entry = self._entry(words, defaults, path)
            if entry is not None:
                yield entry

    def _entry(self, words: EntryWords, defaults: Options, path: tuple[Step, ...]) -> Entry | None:
        said = {**defaults.said(), **words.said()}
        place = located.at(self._root, (*path, "source")).place
        try:
            request = _request(said)
        except (UsageError, ValidationError) as error:
            self._wrong(place, f"what is asked of it does not go together: {one_line(str(error))}")
            return None
        return Entry(
            place,
            located.at(self._root, (*path, "name")).place if words.name is not None else place,
            words.source,
            request,
            words.name,
            tuple((words.tags or {}).items()),
            words.leave_out or (),
            said.get("priority", 0),
            said.get("not_before"),
            _window(said),
        )

    def _contradictions(self, words: EntryWords, defaults: Options, path: tuple[Step, ...]) -> None:
        """What is asked for and skipped, told at whichever of the two stands in the entry; of the defaults once."""
        own, given = words.said(), defaults.said()
        merged = {**given, **own}
        skipped = merged.get("skip", ())
        for key in ("ask", "only"):
            for name in sorted(set(skipped) & set(merged.get(key, ()))):
                at = "skip" if "skip" in own else key if key in own else None
                where: tuple[Step, ...] = (*path, at) if at else ("defaults", "skip")
                list_at = (merged["skip"] if at in ("skip", None) else merged[key]).index(name)
                mistake = Mistake(
                    located.at(self._root, (*where, list_at)).place,
                    f"{name} is both asked for and skipped",
                    "Ask for it or skip it, not both.",
                )
                if mistake not in self.mistakes:
                    self.mistakes.append(mistake)

    def _twice(self, batch: str, entries: Sequence[Entry]) -> None:
        """VMs and images that are there twice, as far as that is known without asking a source."""
        once, day = Once(), date.today()
        for entry in entries:
            if entry.is_live:
                self._take(once, entry.source if not entry.tags and not entry.leave_out else None, entry)
                if entry.template is not None and is_fixed(entry.template):
                    image = entry.image("", day=day, batch=batch, number=1)
                    self.mistakes += once.image(image, entry.name_place)
                continue
            for number, ref in enumerate(kept(entry.files(), entry.leave_out), 1):
                if self._take(once, str(Path(ref.address).resolve()), entry):
                    image = entry.image(ref.name, day=day, batch=batch, number=number)
                    self.mistakes += once.image(image, entry.name_place)

    def _take(self, once: Once, vm: str | None, entry: Entry) -> bool:
        taken = vm is None or once.takes(vm, entry.place)
        if isinstance(taken, Mistake):
            self.mistakes.append(taken)
            return False
        return taken

    def _validated(self, model: type[Model], path: tuple[Step, ...]) -> Model | None:
        """Return a part as far as it is sound, None where nothing can be made of it; what is wrong is told."""
        node = located.at(self._root, path)
        plain = node.plain()
        try:
            return model.model_validate(plain, context=self._context)
        except ValidationError as error:
            self._told(error, model, path)
            broken = {details["loc"][0] for details in error.errors() if details["loc"]}
        if not isinstance(plain, dict):
            return None
        try:
            sound = {key: value for key, value in plain.items() if key not in broken}
            return model.model_validate(sound, context=self._context)
        except ValidationError:
            return None

    def _told(self, error: ValidationError, model: type[Words], path: tuple[Step, ...]) -> None:
        for details in error.errors(include_url=False):
            where = (*path, *details["loc"])
            node = located.at(self._root, where)
            if isinstance(node, located.Text) and node.is_void and details["type"] != "missing":
                continue
            at_key = details["type"] == "extra_forbidden"
            place = located.key_place(self._root, where) if at_key else node.place
            text, hint = _words(details, _keys(model, details["loc"]))
            self._wrong(place, text, hint)

    def _wrong(self, place: Place, text: str, hint: str | None = None) -> None:
        self.mistakes.append(Mistake(place, text, hint))


def kept(found: Sequence[VmRef], leave_out: Sequence[str]) -> tuple[VmRef, ...]:
    """Return the VMs that no pattern leaves out."""
    return tuple(ref for ref in found if not is_left_out(ref.name, ref.address, leave_out))


def is_left_out(name: str, address: str, leave_out: Sequence[str]) -> bool:
    """Whether a VM's name, its file's or its whole address matches a pattern."""
    called = (name, address, address.rpartition("/")[2])
    return any(fnmatchcase(text, pattern) for text in called for pattern in leave_out)


def _keys(model: type[Words], loc: Sequence[Step]) -> tuple[str, ...]:
    """The keys that are known where a mistake is."""
    parts: dict[str, type[Words]] = {"window": WindowWords, "launch": LaunchWords}
    return (parts.get(str(loc[0]), model) if len(loc) > 1 else model).known_keys()


def _known(keys: Sequence[str]) -> str:
    return f"Known are {', '.join(keys)}." if len(keys) <= MOST_KNOWN else "`magalu-migrate batch schema` has them all."


def _words(details: ErrorDetails, known: Sequence[str]) -> tuple[str, str | None]:
    """What is wrong, in the user's words, and what to do."""
    context: Mapping[str, Any] = details.get("ctx", {})
    last = str(details["loc"][-1]) if details["loc"] else ""
    found = _found(details["input"])
    match details["type"]:
        case "said":
            return str(context["text"]), context.get("hint")
        case "missing":
            return f"`{last}` is missing", None
        case "extra_forbidden" if hidden.is_named(last) or _SECRET.search(last):
            return f"there is no key `{one_line(last)}`: nothing secret stands in a batch file", SECRETS_HINT
        case "extra_forbidden":
            near = nearest(last, known)
            return f"there is no key `{one_line(last)}`{near}", None if near else _known(known)
        case "enum" | "literal_error":
            expected = str(context["expected"]).replace("'", "").replace(" or ", ", ")
            return (
                f"wanted one of {expected}, found {found}{nearest(str(details['input']), expected.split(', '))}",
                None,
            )
        case "bool_parsing" | "bool_type":
            return f"wanted true or false, found {found}", None
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"wanted a whole number, found {found}", None
        case "float_parsing" | "float_type" | "finite_number":
            return f"wanted a number, found {found}", None
        case "greater_than_equal":
            return f"wanted {context['ge']} or more, found {found}", None
        case "greater_than":
            return f"wanted more than {context['gt']:g}, found {found}", None
        case "less_than_equal":
            return f"wanted {context['le']} or less, found {found}", None
        case "string_type":
            return f"wanted a text, found {found}", None
        case "tuple_type" | "list_type":
            return f"wanted a list, found {found}", "Write it in brackets, [a, b], or each in a line behind a dash."
        case "too_short" if last == "vms":
            return "there is no VM in the batch", None
        case "too_short":
            return "the list is empty", None
        case "model_type" | "dict_type" | "mapping_type" | "model_attributes_type":
            return f"wanted keys with values, found {found}", _known(known)
        case "string_pattern_mismatch" if last == "name":
            return (
                f"{found} is no name of a batch",
                "It has letters, digits, dots, - and _, and begins with a letter or a digit.",
            )
        case "string_too_short" | "string_too_long":
            least, most = context.get("min_length"), context.get("max_length")
            return (
                f"wanted {f'{least} characters or more' if least else f'at most {most} characters'}, found {found}",
                None,
            )
        case _:
            return details["msg"][:1].lower() + details["msg"][1:], None


def _found(value: object) -> str:
    match value:
        case str():
            return quoted(value)
        case list():
            return f"a list of {counted(len(value), 'item')}"
        case dict():
            return "keys with values"
        case _:
            return one_line(str(value))


def _limits(words: LimitsWords | None) -> Limits:
    return Limits() if words is None else Limits(**words.said())


def _window(said: Mapping[str, Any]) -> Window | None:
    words = said.get("window")
    return None if words is None else Window(**dict(words))


def _request(said: Mapping[str, Any]) -> VmRequest:
    """What is asked of a VM, whose address and name are not known yet."""
    plain = {key: value for key, value in said.items() if key not in (*_OF_SOURCE, *_OF_BATCH, *_OF_ENTRY)}
    if "launch" in plain:
        plain["launch"] = LaunchOptions(**dict(plain["launch"]))
    if "size_limit" in plain:
        plain["size_limit"] = int(plain["size_limit"] * 10**9)
    options = SourceOptions(**{key: said[key] for key in _OF_SOURCE if key in said})
    return VmRequest(address=said["source"], source=options, **plain)

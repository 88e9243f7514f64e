"""Batch files: what they may say, and how everything that is wrong in one is told at its place."""

import json
import tempfile
from datetime import UTC, date, datetime, time
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from migrate.batch import file as batch_file
from migrate.batch import located
from migrate.batch.file_model import EntryWords, LaunchWords, json_schema
from migrate.batch.model import Batch, Limits, Window
from migrate.batch.resolve import resolve
from migrate.batch.template import check_template, rendered
from migrate.cli.vm import vm
from migrate.errors import FileWrong, UsageError
from migrate.qcow2 import Compression
from migrate.remediation import Profile
from migrate.run import Run
from migrate.target import LaunchOptions
from migrate.wiring.request import VmRequest
from migrate.wiring.sources import SourceOptions
from tests.program import asked

PIECES = (
    *(
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "*",
        "&x ",
        "!!int ",
        "~",
        "'",
        '"',
        "---\n",
        "<<",
        "nan",
        "1e999",
        "9" * 30,
    ),
    *(
        "{0.x}",
        "\u202e",
        "vmware://[::1",
        "%zz",
        "~nobody",
        "a" * 5000,
        '"\\0"',
        '"[\\0*"',
        '"\\ud800"',
        "[z-a]*",
        "**/",
    ),
)
TODAY = date(2026, 11, 23)
SECRET = "Planted-Geheim-4711"

TWENTY = f"""\
name: wave 2
limits:
  overall: zero
  per-host: 3
defaults:
  profile: golden
  region: br-se9
  window: {{opens: "25:00", closes: 06:00, days: mon-fry, zone: America/SaoPaulo}}
  skip: [strip-macs]
  password: {SECRET}
vms:
  - source: nowhere/*.ova
  - source: vmware://root:{SECRET}@vc1/DC0/a
  - source: vmware://vc1/DC0/b
    name: "{{nmae}}-x"
    skip: [strip-mac, enable-sshd]
    waive: [NET-999]
  - source: erp01.raw
    not-before: 2026-12-01 22:00
    prove: maybe
    compression: gzip
    priorty: 3
  - source: erp01.raw
    ask: [strip-macs]
    repo: ["https://a:{SECRET}@example.org/x"]
  - source: vmware://vc1/DC0/[c
    name: x
    name: y
"""
MISTAKES = (
    ("1:7", '"wave 2" is no name of a batch'),
    ("3:12", 'wanted a whole number, found "zero"'),
    ("4:3", "there is no key `per-host`"),
    ("6:12", 'wanted one of lift-and-shift, golden-image, found "golden"; did you mean golden-image?'),
    ("7:11", "the region 'br-se9' is unknown"),
    ("8:19", '"25:00" is no time of day'),
    ("8:49", '"fry" is no day; did you mean fri?'),
    ("8:64", 'there is no time zone "America/SaoPaulo"; did you mean America/Sao_Paulo?'),
    ("10:3", "there is no key `password`: nothing secret stands in a batch file"),
    ("12:13", "no file matches"),
    ("13:13", "an address holds no user and no password here"),
    ("15:11", "a name has no field {nmae}; did you mean {name}?"),
    ("16:12", 'there is no remediation "strip-mac"; did you mean strip-macs?'),
    ("17:13", 'there is no finding "NET-999"'),
    ("19:17", '"2026-12-01 22:00" does not say in which time zone'),
    ("20:12", 'wanted true or false, found "maybe"'),
    ("21:18", 'wanted one of zlib, zlib-small, zstd, found "gzip"'),
    ("22:5", "there is no key `priorty`; did you mean priority?"),
    ("23:13", "is in the batch already, by line 18"),
    ("24:11", "strip-macs is both asked for and skipped"),
    ("25:12", "an address holds no user and no password here"),
    ("26:13", 'the pattern "[c" opens a [ that is never closed'),
    ("28:5", "`name` is there twice; the first is in line 27"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three disks, of which nothing is read here."""
    for name in ("erp01.raw", "web1.raw", "web2.raw"):
        (tmp_path / name).touch()
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "wave.yaml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    """What is told of a file: "line:column: text"."""
    with pytest.raises(FileWrong) as told:
        resolved(folder, text)
    return [f"{one.place.line}:{one.place.column}: {one.text}" for one in told.value.mistakes]


def resolved(folder: Path, text: str) -> Batch:
    return resolve(Run(folder), written(folder, text), today=TODAY)


def one(folder: Path, *lines: str) -> VmRequest:
    """What a batch asks of its one VM, which says this of itself."""
    entry = "".join(f"\n    {line}" for line in lines)
    (vm,) = resolved(folder, f"name: b\nvms:\n  - source: erp01.raw{entry}\n").vms
    return vm.request


# What is wrong


def test_twenty_mistakes_are_told_at_once_each_at_its_place(folder: Path) -> None:
    told = mistakes(folder, TWENTY)
    assert [text.partition(": ")[0] for text in told] == [place for place, _ in MISTAKES]
    assert len(MISTAKES) > 20
    for text, (_, wanted) in zip(told, MISTAKES, strict=True):
        assert wanted in text


@pytest.mark.parametrize("words", [(), ("--output", "json")], ids=["text", "json"])
def test_the_program_tells_a_wrong_file_line_by_line_and_repeats_no_secret(
    folder: Path, words: tuple[str, ...]
) -> None:
    path = written(folder, TWENTY)
    answer = asked("batch", "check", path, *words)
    assert answer.code == 2
    if words:
        told = [f"{one['line']}:{one['column']}" for one in answer.json["mistakes"]]
    else:
        lines = [line for line in answer.err.splitlines() if line.startswith(f"{path}:")]
        told = [":".join(line.removeprefix(f"{path}:").split(":")[:2]) for line in lines[:-1]]
    assert told == [place for place, _ in MISTAKES]
    assert SECRET not in answer.out + answer.err


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "1:1: the file is empty"),
        (b"a: b: c\n", "1:5: this is no YAML: mapping values are not allowed in this context"),
        (b"a:\n\t- b\n", "2:1: this is no YAML: found character that cannot start any token"),
        (b"a: 1\n---\nb: 2\n", "2:1: a second document begins here; a batch is one"),
        (b"a: \xff\n", "1:4: what stands here is no UTF-8"),
        (b"a: x\x07\n", "1:5: the character \\x07 cannot be in YAML"),
        (b"a: !!python/name:os.system x\n", "1:4: tag:yaml.org,2002:python/name:os.system: tags have no meaning here"),
        (b"a: &x {b: 1}\nc: *x\n", "2:4: aliases (*) are not read"),
        (b"a: {<<: {b: 1}}\n", "1:5: << is not read"),
        (b"a: {b: 1, b: 2}\n", "1:11: `b` is there twice; the first is in line 1"),
        (b"a: [b, ]\n? [c]\n: d\n", "2:3: a key must be a word"),
        (b"a:\nb: 1\n", "1:1: nothing stands behind `a:`"),
        (b"a: [b, ~]\n", "1:8: an item of the list is empty"),
        (b"[" * 5000, "1:14: lists and mappings are nested deeper than 12 levels"),
        (b"a: " + b"x" * (8 << 20), "1:1: the file has 8,388,611 bytes; at most 8,388,608 are read"),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_cannot_be_read_is_told_at_its_place(content: bytes, wanted: str) -> None:
    _, told = located.read(content)
    assert [f"{one.place.line}:{one.place.column}: {one.text}" for one in told] == [wanted]


@given(st.lists(st.tuples(st.integers(0, len(TWENTY)), st.sampled_from(PIECES)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_read_or_told(planted: list[tuple[int, str]]) -> None:
    text = TWENTY
    for at, piece in planted:
        text = text[:at] + piece + text[at:]
    with tempfile.TemporaryDirectory() as folder, pytest.raises(FileWrong) as told:
        batch_file.read(written(Path(folder), text))
    assert all(one.place.line >= 1 and one.place.column >= 1 for one in told.value.mistakes)


def test_a_bomb_of_aliases_is_not_unfolded() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + at)}: &{chr(98 + at)} [{f'*{chr(97 + at)}, ' * 9}]\n" for at in range(9)
    )
    _, told = located.read(bomb.encode())
    assert len(told) == 81


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[]", "1:1: a batch file begins with keys: name, limits, defaults, vms"),
        ("vms: [{source: erp01.raw}]", "1:1: `name` is missing"),
        ("name: b", "1:1: `vms` is missing"),
        ("name: b\nvms: []", "2:6: there is no VM in the batch"),
        ("name: b\nvms: erp01.raw", '2:6: wanted a list, found "erp01.raw"'),
        ("name: b\nvms: [erp01.raw]", '2:7: wanted keys with values, found "erp01.raw"'),
        ("name: b\nvms: [{sauce: x}]", "2:7: `source` is missing|2:8: there is no key `sauce`; did you mean source?"),
        ("name: b\nvms: [{source: erp01.raw, tags: {a: b}}]", "2:27: a file has no tags; live sources have"),
        ("name: b\nvms: [{source: erp02.raw}]", "2:16: there is no file {folder}/erp02.raw"),
        ("name: b\nvms: [{source: erp01.raw, launch: {}}]", "2:35: `ssh-key` is missing"),
        ("name: b\nvms: [{source: erp01.raw, size-limit: 0}]", '2:39: wanted more than 0, found "0"'),
        ("name: b\nvms: [{source: erp01.raw, bandwidth: fast}]", "2:38: 'fast' is no bandwidth"),
        ("name: b\nvms: [{source: erp01.raw, skip: all}]", '2:33: wanted a list, found "all"'),
        ("name: b\nvms: [{source: '*.raw', name: x}]", "2:31: the image \"x\" would be made twice, first for a VM of the same entry"),
        ("name: b\nvms: [{source: '*.raw'}, {source: web1.raw}]", "2:35: {folder}/web1.raw is in the batch already, by line 2"),
        ("name: b\nvms: [{source: '*.raw', except: ['*']}]", "2:16: {folder}/*.raw names no VM, beside those that are left out"),
        (
            "name: b\nvms: [{source: erp01.raw, waive: [GUEST-001]}]",
            "2:35: GUEST-001: that the system is encrypted cannot be waived, because the machine would not come up or not be whole",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_at_its_place(folder: Path, text: str, wanted: str) -> None:
    assert mistakes(folder, text) == wanted.replace("{folder}", str(folder)).split("|")


def test_two_live_entries_of_one_address_are_told_without_asking_the_source(folder: Path) -> None:
    text = "name: b\nvms:\n  - source: vmware://vc1/DC0/a\n  - source: vmware://vc1/DC0/a\n    name: y\n"
    assert mistakes(folder, text) == ["4:13: vmware://vc1/DC0/a is in the batch already, by line 3"]


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        batch_file.read(tmp_path / "wave.yaml")


# What is right


def test_every_wish_of_vm_has_its_key() -> None:
    """But for the address, the file that an image of a batch is not kept in, and the approval, which is `batch run`'s; a launch's name is the VM's own."""
    of_vm = {*VmRequest.model_fields, *SourceOptions.__slots__} - {"address", "keep_image", "source", "approve"}
    assert {*EntryWords.model_fields} - {"source", "tags", "leave_out", "priority", "not_before", "window"} == of_vm
    assert {*LaunchWords.model_fields} == {*LaunchOptions.__slots__} - {"name"}


def test_what_is_said_is_asked_for(folder: Path) -> None:
    request = one(
        folder,
        "profile: golden-image",
        "skip: [strip-macs]",
        "prove: no",
        "size-limit: 1.5",
        "bandwidth: 20M",
        "compression: zstd",
        "data-disks: skip",
        "name: '{name}-{date}-{batch}-{number}'",
        "launch: {ssh-key: ops, tags: false}",
        "transport: nfc",
    )
    assert request.profile is Profile.GOLDEN_IMAGE
    assert (request.skip, request.prove, request.data_disks) == (("strip-macs",), False, "skip")
    assert (request.size_limit, request.bandwidth) == (1_500_000_000, 20_000_000)
    assert (request.compression, request.source.transport) == (Compression.ZSTD, "nfc")
    assert request.launch == LaunchOptions(ssh_key="ops", tags=False)
    assert (request.address, request.name) == (str(folder / "erp01.raw"), "erp01-20261123-b-1")


def test_what_is_left_out_is_as_with_vm(folder: Path) -> None:
    assert one(folder) == VmRequest(address=str(folder / "erp01.raw"))


def test_defaults_hold_where_a_vm_says_nothing_else(folder: Path) -> None:
    batch = resolved(
        folder,
        """
name: b
limits: {overall: 9, per-source: 3}
defaults:
  waive: [NET-012]
  sandbox: true
  priority: 5
  not-before: 2026-12-01T22:00-03:00
  window: {opens: 22:00, closes: 06:00, days: fri-mon, zone: America/Sao_Paulo}
vms:
  - source: erp01.raw
    waive: [NET-013]
    priority: 7
    region: br-ne1
    sandbox: false
    window: {opens: 1:30, closes: 2:00, days: [sun]}
  - source: web1.raw
""",
    )
    first, second = batch.vms
    assert batch.limits == Limits(overall=9, per_source=3)
    assert (first.request.waive, first.priority, first.target) == (("NET-013",), 7, "magalu/br-ne1")
    assert (second.request.waive, second.priority, second.target) == (("NET-012",), 5, "sandbox")
    assert first.not_before == second.not_before == datetime(2026, 12, 2, 1, tzinfo=UTC)
    assert first.window == Window(opens=time(1, 30), closes=time(2), days=(6,))
    assert second.window == Window(opens=time(22), closes=time(6), days=(4, 5, 6, 0), zone="America/Sao_Paulo")


def test_a_pattern_gives_each_vm_once_in_the_same_order_every_time(folder: Path) -> None:
    (folder / "web3.raw").symlink_to("web1.raw")
    text = "name: b\nvms:\n  - source: '*.raw'\n    except: ['erp*']\n  - source: erp01.raw\n"
    batch = resolved(folder, text)
    assert [(vm.id, vm.source) for vm in batch.vms] == [("web1", "files"), ("web2", "files"), ("erp01", "files")]
    assert resolved(folder, text) == batch


def test_two_vms_of_one_name_have_ids_of_their_own(folder: Path) -> None:
    (folder / "old").mkdir()
    (folder / "old/erp01.raw").touch()
    batch = resolved(folder, "name: b\nvms: [{source: erp01.raw}, {source: old/erp01.raw, name: erp01-old}]")
    assert [vm.id for vm in batch.vms] == ["erp01", "erp01-2"]


def test_a_batch_can_be_written_down_and_read_again(folder: Path) -> None:
    batch = resolved(folder, "name: b\nvms: [{source: '*.raw', launch: {ssh-key: ops}}]")
    assert Batch.model_validate_json(batch.model_dump_json()) == batch


@pytest.mark.parametrize(
    ("template", "wanted"),
    [("{name}", "erp-01--db"), ("x_{number}", "x_3"), ("{batch}-{date}", "wave-2-20261123"), ("{name}" * 40, 255)],
)
def test_a_template_gives_what_an_image_may_be_called(template: str, wanted: str | int) -> None:
    check_template(template)
    found = rendered(template, name="erp 01 (db)", day=TODAY, batch="wave.2", number=3)
    assert (found if isinstance(wanted, str) else len(found)) == wanted


@pytest.mark.parametrize("template", ["{name!r}", "{name:>10}", "{name.x}", "{0}", "{", "a b", "", "ção", "x" * 256])
def test_a_template_that_is_none_is_refused(template: str) -> None:
    with pytest.raises(UsageError):
        check_template(template)


# For editors


def test_the_schema_holds_for_what_is_read_and_knows_what_is_not(folder: Path) -> None:
    schema = json.loads(asked("batch", "schema").out)
    assert schema == json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    good = """
name: b
limits: {overall: 4}
defaults: {waive: [NET-012], window: {opens: "22:00", closes: "06:00", days: mon-fri}}
vms: [{source: erp01.raw, name: "{name}-{date}", prove: false, priority: 3, bandwidth: 20M, launch: {ssh-key: ops}}]
"""
    resolved(folder, good)
    assert [*check.iter_errors(yaml.safe_load(good))] == []
    for bad in (
        "nmae: x",
        "prove: 3",
        "skip: [strip-mac]",
        "window: {opens: '25:00', closes: '1:00'}",
    ):
        text = good.replace("prove: false", bad)
        assert not check.is_valid(yaml.safe_load(text)), bad
        mistakes(folder, text)
    assert not check.is_valid(yaml.safe_load(good.replace("{date}", "{day}")))


def test_what_vm_lets_choose_from_the_file_lets_choose_from() -> None:
    schema = json_schema()
    keys = schema["$defs"]["EntryWords"]["properties"]
    for option in vm.params:
        name = max(option.opts, key=len).lstrip("-")
        if isinstance(option.type, click.Choice) and name in keys:
            told = {**schema["$defs"].get(keys[name].get("$ref", "").rpartition("/")[2], {}), **keys[name]}
            assert set(told["enum"]) == set(option.type.choices) - {"dissect"}, name  # which only looks


def test_every_key_of_the_schema_says_what_it_is() -> None:
    schema = json_schema()
    for part in (schema, *(part for part in schema["$defs"].values() if "properties" in part)):
        for key, value in part["properties"].items():
            assert key == key.lower() and "_" not in key
            assert "description" in value or key in ("limits", "vms", "tags", "public-ip"), key

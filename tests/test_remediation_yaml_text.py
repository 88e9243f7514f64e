import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remediations.yaml_text import Unreadable, mapping, without


def cut(text: str, *keys: str) -> str:
    return without(text, lambda path, value: ".".join(path) in keys)


def test_only_the_lines_of_the_key_go() -> None:
    text = """\
# Written by the template builder.
network:
  config: disabled   # we do it ourselves

# The next one stays.
hostname: erp01  # as in the CMDB
"""
    assert cut(text, "network") == (
        "# Written by the template builder.\n\n# The next one stays.\nhostname: erp01  # as in the CMDB\n"
    )


def test_a_key_whose_last_inner_key_goes_goes_too() -> None:
    text = "datasource:\n  Azure:\n    apply_network_config: false\n  # and\n  Ec2: {strict_id: true}\nx: 1\n"
    assert cut(text, "datasource.Azure") == "datasource:\n  # and\n  Ec2: {strict_id: true}\nx: 1\n"
    assert cut(text, "datasource.Azure", "datasource.Ec2") == "x: 1\n"


def test_keys_in_braces_go_with_their_comma() -> None:
    text = "datasource: {Azure: {a: 1}, Ec2: {b: [1, 2]}, OVF: null}  # three\n"
    assert cut(text, "datasource.Azure") == "datasource: {Ec2: {b: [1, 2]}, OVF: null}  # three\n"
    assert cut(text, "datasource.OVF") == "datasource: {Azure: {a: 1}, Ec2: {b: [1, 2]}}  # three\n"
    assert cut(text, "datasource.Ec2", "datasource.OVF") == "datasource: {Azure: {a: 1}}  # three\n"


def test_a_block_of_text_with_what_looks_like_comments_goes_whole() -> None:
    text = "userdata_raw: |\n  #cloud-config\n  growpart:\n    mode: 'off'\nlast: 1\n"
    assert cut(text, "userdata_raw") == "last: 1\n"


def test_an_anchor_that_something_leans_on_is_not_cut() -> None:
    with pytest.raises(Unreadable, match="lean on each other"):
        cut("a: &x {b: 1}\nc: *x\n", "a")


def test_aliases_that_multiply_or_never_end_are_refused() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    for text in (bomb, "a: &a {b: *a}\n"):
        with pytest.raises(Unreadable, match="aliases make more than"):
            mapping(text)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "just words", "a: 2023-02-31", "[" * 500, "a: \udc80"])
def test_what_is_no_mapping_is_told_and_not_a_crash(text: str) -> None:
    with pytest.raises(Unreadable):
        mapping(text)


WORDS = st.sampled_from(["a", "b", "network", "datasource", "Ec2"])
TREES = st.dictionaries(
    WORDS,
    st.recursive(
        st.one_of(st.integers(), st.booleans(), st.text("xy #:\n", max_size=12)),
        lambda inner: st.one_of(st.dictionaries(WORDS, inner, max_size=3), st.lists(inner, max_size=3)),
        max_leaves=8,
    ),
    max_size=4,
)


@given(TREES, WORDS, st.sampled_from([None, True, False]))
def test_what_is_cut_is_gone_and_the_rest_says_the_same(tree: dict[str, object], key: str, flow: bool | None) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow)
    kept = {name: value for name, value in tree.items() if name != key}
    assert mapping(without(text, lambda path, value: path == (key,))) == kept

"""Untrusted JSON, YAML and text: no limit can be passed, and an error names the file."""

from pathlib import Path

import pytest

from mnsa.data.formats.untrusted import (
    read_json,
    read_json_list,
    read_text,
    read_yaml,
    require_mapping,
    require_names,
    shorten,
)
from mnsa.errors import DataError


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": NaN}', '{"a": Infinity}', '{"a": "\\ud800"}', '{"a": 1'])
def test_json_that_is_deep_or_not_valid_is_rejected(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"tree\.json can't be read as JSON"):
        read_json(path)


def test_json_is_read_as_the_type_that_is_asked_for(tmp_path: Path) -> None:
    mapping, listed = tmp_path / "mapping.json", tmp_path / "list.json"
    mapping.write_text('{"a": [1, "\\ud83c\\udf3f"]}')  # a surrogate pair is one character
    listed.write_text("[1, 2]")
    assert read_json(mapping) == {"a": [1, "\N{HERB}"]}
    assert read_json_list(listed) == [1, 2]
    with pytest.raises(DataError, match=r"list\.json: expected names and values"):
        read_json(listed)
    with pytest.raises(DataError, match=r"mapping\.json: expected a list"):
        read_json_list(mapping)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", r"alias \*x"),
        ("a: " + "[" * 30 + "]" * 30, "deeper than 20 levels"),
        ("a: !!python/object/apply:os.system ['true']", "can't be read as YAML"),
        ("- 1\n", "expected a mapping"),
    ],
)
def test_yaml_may_contain_plain_values_only(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_yaml(path)


def test_text_has_a_size_limit_and_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfleaf")
    assert read_text(path, 7) == "leaf"  # without the byte order mark
    with pytest.raises(DataError, match="has 7 bytes; at most 6"):
        read_text(path, 6)
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="can't be read"):
        read_text(path)
    with pytest.raises(DataError, match="There is no file"):
        read_text(tmp_path / "b.txt")


@pytest.mark.parametrize("value", [["a", "a"], ["a", " "], ["a", 1], "a", None])
def test_names_are_different_texts(value: object) -> None:
    assert require_names(["a", "b"], "here") == ("a", "b")
    with pytest.raises(DataError, match=r"^here: "):
        require_names(value, "here")


def test_keys_of_a_mapping_are_text() -> None:
    assert require_mapping({"a": 1}, "here") == {"a": 1}
    with pytest.raises(DataError, match=r"^here: expected a mapping"):
        require_mapping({1: "a"}, "here")


def test_a_long_value_is_shortened_for_a_message() -> None:
    assert shorten("a") == "'a'"
    assert len(shorten("a" * 1000)) == 80

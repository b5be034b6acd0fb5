"""Read untrusted JSON and YAML: limited in size and depth, and nothing in them is run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mnsa.errors import DataError

MAX_JSON_BYTES = 512 * 2**20  # COCO's own largest file has 450 million bytes

MAX_YAML_BYTES = 2**20

MAX_TEXT_BYTES = 64 * 2**20

_MAX_DEPTH = 20

_SURROGATE = re.compile(r"\\[uU](0000)?[dD][89a-fA-F]")  # may be half of one, or the beginning of a whole one


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: DataError naming the file, also for NaN and Infinity, which JSON doesn't have."""
    return require_mapping(_parse_json(path), str(path))


def read_json_list(path: Path) -> list[Any]:
    """Read a JSON list, as `read_json` does an object."""
    tree = _parse_json(path)
    if not isinstance(tree, list):
        raise DataError(f"{path}: expected a list, got {shorten(tree)}.")
    return tree


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values. Raises: DataError naming the file, also for anchors, which can multiply."""
    text = read_text(path, MAX_YAML_BYTES)
    try:
        _check_events(text, path)
        tree = yaml.safe_load(text)
        _reject_surrogates(text, tree)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # dates and keys that are none among them
        raise DataError(f"{path} can't be read as YAML: {' '.join(str(error).split())}. Save it anew.") from None
    return require_mapping(tree, str(path))


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 text of limited size. Raises: DataError naming the file."""
    try:
        if not path.is_file():
            raise DataError(f"There is no file {path}.")
        if (size := path.stat().st_size) > max_bytes:
            raise DataError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
        raise DataError(f"{path} can't be read: {error}.") from None


def require_mapping(value: object, location: str) -> dict[str, Any]:
    """Pass on a mapping whose keys are text. Raises: DataError beginning with `location`."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise DataError(f"{location}: expected a mapping with names as keys, got {shorten(value)}.")
    return dict(value)


def require_names(value: object, location: str) -> tuple[str, ...]:
    """Pass on names that differ. Raises: DataError beginning with `location`."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise DataError(f"{location}: expected a list of names, got {shorten(value)}.")
    if len(set(value)) < len(value):
        raise DataError(f"{location}: the names must differ, got {shorten(value)}.")
    return tuple(value)


def shorten(value: object) -> str:
    """Show the beginning of what was found."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _parse_json(path: Path) -> object:
    text = read_text(path, MAX_JSON_BYTES)
    try:
        tree = json.loads(text, parse_constant=_reject_constant)
        _reject_surrogates(text, tree)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}. Save it anew.") from None
    return tree


def _reject_surrogates(text: str, tree: object) -> None:
    """Refuse halves of characters, which escapes can spell and no file can hold. Raises: UnicodeEncodeError."""
    if _SURROGATE.search(text):
        json.dumps(tree, ensure_ascii=False, default=str).encode()


def _check_events(text: str, path: Path) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise DataError(f"{path} repeats a part of itself (*{event.anchor}); expected plain values, written out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise DataError(f"{path} is nested deeper than {_MAX_DEPTH} levels; expected a data.yaml.")


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")

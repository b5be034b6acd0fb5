"""Read untrusted JSON, YAML and text: size and depth are limited, and no code is executed.

This module does not use `mnsa.io.read_json`: annotation files are larger, and NaN and Infinity, which `json` accepts,
must be rejected with `parse_constant`. Depth is limited by the recursion limit of `json`.
"""

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

_SURROGATE = re.compile(r"\\[uU](0000)?[dD][89a-fA-F]")  # an unpaired surrogate, or the start of a pair


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: DataError with the file, also for NaN and Infinity, which are not valid JSON."""
    tree = _parse_json(path)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected names and values, got {shorten(tree)}. Give the file that the tool exports.")
    return tree


def read_json_list(path: Path) -> list[Any]:
    """Read a JSON list. Raises: as `read_json`."""
    tree = _parse_json(path)
    if not isinstance(tree, list):
        raise DataError(f"{path}: expected a list, got {shorten(tree)}. Give the file that the tool exports.")
    return tree


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values.

    Raises: DataError with the file, also for aliases, which can grow without limit.
    """
    text = read_text(path, MAX_YAML_BYTES)
    try:
        _check_events(text, path)
        tree = yaml.safe_load(text)
        _reject_surrogates(text, tree)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # also raised for invalid dates and keys
        raise DataError(f"{path} can't be read as YAML: {' '.join(str(error).split())}. Save it again.") from None
    return require_mapping(tree, str(path))


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read UTF-8 text of limited size. Raises: DataError with the file."""
    try:
        if not path.is_file():
            raise DataError(f"There is no file {path}.")
        if (size := path.stat().st_size) > max_bytes:
            raise DataError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read.")
        data = path.read_bytes()
        if data.startswith(b"PK\3\4"):
            raise DataError(f"{path} is a zip file. Unpack it, and give the file in it.")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} can't be read: it is not UTF-8 text ({error.reason}). Save it as UTF-8.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{path} can't be read: {error}.") from None


def require_mapping(value: object, location: str) -> dict[str, Any]:
    """Return a mapping after checking that its keys are text. Raises: DataError that starts with `location`."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise DataError(f"{location}: expected a mapping with names as keys, got {shorten(value)}.")
    return dict(value)


def require_names(value: object, location: str) -> tuple[str, ...]:
    """Return names after checking that they are text and differ. Raises: DataError that starts with `location`."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise DataError(
            f"{location}: expected a list of names, got {shorten(value)}. Write numbers, yes and no in quotes."
        )
    if len(set(value)) < len(value):
        raise DataError(f"{location}: the names must differ, got {shorten(value)}.")
    return tuple(value)


def shorten(value: object) -> str:
    """Format a value for an error message, with at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _parse_json(path: Path) -> object:
    text = read_text(path, MAX_JSON_BYTES)
    try:
        tree = json.loads(text, parse_constant=_reject_constant)
        _reject_surrogates(text, tree)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}. Export it again, as JSON.") from None
    return tree


def _reject_surrogates(text: str, tree: object) -> None:
    """Reject unpaired surrogates, which have no UTF-8 encoding. Raises: UnicodeEncodeError."""
    if _SURROGATE.search(text):
        json.dumps(tree, ensure_ascii=False, default=str).encode()


def _check_events(text: str, path: Path) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise DataError(f"{path} uses the YAML alias *{event.anchor}; expected plain values without aliases.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise DataError(f"{path} is nested deeper than {_MAX_DEPTH} levels; expected a data.yaml.")


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")

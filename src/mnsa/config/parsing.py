"""A tree of plain values becomes a Config, or is refused by the name of its key; and a Config becomes TOML."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from mnsa.config.sections import Config, StageConfig
from mnsa.errors import ConfigError


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """Validate a config given as nested dicts. Raises: ConfigError naming `source`, the key and the fix."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A list that is too short only because its items are wrong says nothing new.
        faults = [e for e in error.errors() if e["type"] != "too_short"] or error.errors()
        raise ConfigError(f"{source}: " + "; ".join(_explain(fault) for fault in faults) + ".") from None


def dump_config(config: Config) -> str:
    """The config as TOML, every field spelled out, so that a later default can't change an old run."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="python")))


def _without_none(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, (list, tuple)):
        return [_without_none(value) for value in tree]
    return tree


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "config"
    if error["type"] == "extra_forbidden":
        key, valid = str(error["loc"][-1]), _valid_keys(error["loc"][:-1])
        near = get_close_matches(key, valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys are {', '.join(valid)}"
        return f"unknown key {where!r}; {hint}"
    if error["type"] == "missing":
        return f"{where!r} is missing"
    if error["type"] == "value_error":  # our own rules between fields say everything themselves
        return str(error["ctx"]["error"])
    return f"{where!r} is {error['input']!r}: {error['msg']}"


def _valid_keys(location: tuple[str | int, ...]) -> list[str]:
    section: type[BaseModel] = StageConfig if location and location[0] == "stages" else Config
    if section is Config and location:
        annotation = Config.model_fields[str(location[0])].annotation
        section = annotation if isinstance(annotation, type) else Config
    return list(section.model_fields)

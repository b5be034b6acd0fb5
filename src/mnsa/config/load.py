"""Config files: TOML, the file it is based on, and overrides from the command line.

A file may begin with `base = "../paper.toml"`, a path relative to itself, and then need only say what differs:

- A section keeps the base's keys and takes the file's own over them.
- `[[stages]]`, once the file has any, are the file's: those it names and no others, in its order. A stage of the same
  name in the base lends its keys in the same way.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from mnsa.config.parsing import parse_config
from mnsa.config.sections import Config
from mnsa.errors import ConfigError
from mnsa.text_files import read_toml

_LONGEST_CHAIN = 20
_LONGEST_PATH = 4096  # characters


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML config and its bases, apply `section.key=value` overrides (stages by name: `stages.joint.epochs=3`).

    Raises: ConfigError naming the file, the key and the fix.
    """
    chain = [path]
    tree = _read(chain)
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, source=_named(chain))


def _read(chain: list[Path]) -> dict[str, Any]:
    """The last file of `chain`, merged with its bases, which join the chain."""
    path = chain[-1]
    try:
        tree = read_toml(path)
    except FileNotFoundError:
        missing = ", the base of ".join(map(str, reversed(chain)))
        raise ConfigError(f"There is no config file {missing}. `configs/` holds ready ones.") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} can't be read as TOML: {error}.") from None
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str) or "\0" in base or len(base) > _LONGEST_PATH:
        raise ConfigError(f"{path}: base is {base!r}; expected the path of another config, relative to this file.")
    chain.append(path.parent / base)
    if len(chain) > _LONGEST_CHAIN:
        raise ConfigError(f"{path}: more than {_LONGEST_CHAIN} configs are based on one another. Merge some of them.")
    if chain[-1].resolve() in [file.resolve() for file in chain[:-1]]:
        raise ConfigError(f"{_named(chain)}: a circle. Take `base` out of one of these files.")
    return _merged(_read(chain), tree)


def _named(chain: list[Path]) -> str:
    return ", based on ".join(map(str, chain))


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    tree = dict(base)
    for key, value in own.items():
        beneath = base.get(key)
        if isinstance(value, dict) and isinstance(beneath, dict):
            tree[key] = {**beneath, **value}
        elif key == "stages" and _are_tables(value) and _are_tables(beneath):
            named = {str(stage.get("name")): stage for stage in beneath}
            tree[key] = [{**named.get(str(stage.get("name")), {}), **stage} for stage in value]
        else:
            tree[key] = value
    return tree


def _are_tables(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2:
        raise ConfigError(f"--set {override!r} is not of the form section.key=value, such as train.seed=2.")
    node: Any = tree
    for key in keys[:-1]:
        node = _descend(node, key, override)
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override!r} names a stage but none of its keys, such as stages.{keys[-1]}.epochs=3.")
    node[keys[-1]] = _toml_value(text.strip())


def _descend(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        for stage in node:
            if stage.get("name") == key:
                return stage
        names = ", ".join(str(stage.get("name")) for stage in node)
        raise ConfigError(f"--set {override!r}: there is no stage {key!r}; the stages are {names}.")
    child = node.setdefault(key, {})
    if not isinstance(child, dict) and not _are_tables(child):
        raise ConfigError(f"--set {override!r}: {key!r} is a value, not a section.")
    return child


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # a bare word is a string: --set model.attention=mean

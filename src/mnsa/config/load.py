"""Load a config: read TOML files and their bases, apply overrides, validate, and write it back as TOML.

A file may begin with `base = "../paper.toml"`, a path relative to itself. Then it holds the differences alone:

- A section keeps the keys of the base. The file's own keys win.
- If the file has `[[stages]]`, these are the stages, in this order. A stage of the same name in the base gives its keys
  in the same way.
"""

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeGuard

import tomli_w
from pydantic import BaseModel, ValidationError

from mnsa.config.schema import PART_TASKS, Config, StageConfig
from mnsa.errors import ConfigError
from mnsa.io import read_toml

_MAX_BASES = 20
_MAX_PATH_LENGTH = 4096  # characters


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML config and its bases, and apply overrides.

    path: the TOML file. It may begin with `base = "other.toml"`, a path relative to itself. Or the name of a config
    that comes with the package, such as `small`.
    overrides: texts of the form `section.key=value`; a stage is given by its name: `stages.joint.epochs=3`.

    Raises: ConfigError that names the file, the key and the fix.
    """
    chain = [_find_config(Path(path))]
    tree = _read_with_bases(chain)
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, source=_format_chain(chain))


def override_config(config: Config, overrides: Iterable[str]) -> Config:
    """Return a config with overrides of the form `section.key=value`. Raises: ConfigError, as `load_config`."""
    tree: dict[str, Any] = tomllib.loads(dump_config(config))
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, source="--set")


def select_tasks(config: Config, tasks: Literal["classification", "segmentation", "both"] | None) -> Config:
    """Return a config whose stages train these tasks alone, without the parts that only the other task uses.

    A stage that has nothing left is left out. None: the config as it is.
    Raises: ConfigError when no stage trains one of the tasks.
    """
    if tasks is None:
        return config
    wanted = {"classification", "segmentation"} if tasks == "both" else {tasks}
    if absent := sorted(wanted - config.tasks):
        raise ConfigError(f"--tasks asks for {absent[0]}, which no stage of the config trains. Choose another config.")
    tree: dict[str, Any] = tomllib.loads(dump_config(config))
    for stage in tree["stages"]:
        stage["tasks"] = [task for task in stage["tasks"] if task in wanted]
        stage["trainable"] = [part for part in stage["trainable"] if PART_TASKS.get(part) in (None, *stage["tasks"])]
    tree["stages"] = [stage for stage in tree["stages"] if stage["tasks"] and stage["trainable"]]
    return parse_config(tree, source="--tasks")


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """Validate a config given as nested dicts.

    Raises: ConfigError that names `source`, the key and the fix.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A list whose items are invalid is also reported as too short.
        problems = [e for e in error.errors() if e["type"] != "too_short"] or error.errors()
        raise ConfigError(f"{source}: " + "; ".join(_explain(problem) for problem in problems) + ".") from None


def dump_config(config: Config) -> str:
    """Return the config as TOML with every field, so that new defaults don't change an old run."""
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
    if error["type"] == "value_error":  # raised by the validators of the schema
        return str(error["ctx"]["error"])
    return f"{where!r} is {error['input']!r}: {error['msg']}"


def _valid_keys(location: tuple[str | int, ...]) -> list[str]:
    section: type[BaseModel] = StageConfig if location and location[0] == "stages" else Config
    if section is Config and location:
        annotation = Config.model_fields[str(location[0])].annotation
        section = annotation if isinstance(annotation, type) else Config
    return list(section.model_fields)


def named_configs() -> dict[str, Path]:
    """The configs that come with the package, by name: `configs/` of a clone, which a wheel holds in the package."""
    folders = Path(__file__).parents[1] / "configs", Path(__file__).parents[3] / "configs"
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.toml"))}


def _find_config(path: Path) -> Path:
    if path.suffix or path.exists():
        return path
    configs = named_configs()
    if path.as_posix() not in configs:
        raise ConfigError(
            f"There is no config {path}. Give a TOML file, one of the names {', '.join(configs)}, or none: mnsa train "
            "then plans one."
        )
    return configs[path.as_posix()]


def _read_with_bases(chain: list[Path]) -> dict[str, Any]:
    """Read the last file of `chain` and merge it with its bases, which are appended to `chain`."""
    path = chain[-1]
    try:
        tree = read_toml(path)
    except FileNotFoundError:
        missing = ", the base of ".join(map(str, reversed(chain)))
        raise ConfigError(f"There is no config file {missing}. Ready ones: mnsa train small.") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} can't be read as TOML: {error}. Correct this place, and save it as UTF-8.") from None
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str) or "\0" in base or len(base) > _MAX_PATH_LENGTH:
        raise ConfigError(f"{path}: base is {base!r}; expected the path of another config, relative to this file.")
    chain.append(path.parent / base)
    if len(chain) > _MAX_BASES:
        raise ConfigError(f"{path}: the chain of bases is longer than {_MAX_BASES} files. Merge some of them.")
    if chain[-1].resolve() in [file.resolve() for file in chain[:-1]]:
        raise ConfigError(f"{_format_chain(chain)}: these files form a circle. Remove `base` from one of them.")
    return _merge(_read_with_bases(chain), tree)


def _format_chain(chain: list[Path]) -> str:
    return ", based on ".join(map(str, chain))


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    tree = dict(base)
    for key, value in own.items():
        base_value = base.get(key)
        if isinstance(value, dict) and isinstance(base_value, dict):
            tree[key] = {**base_value, **value}
        elif key == "stages" and _is_list_of_tables(value) and _is_list_of_tables(base_value):
            base_stages = {str(stage.get("name")): stage for stage in base_value}
            tree[key] = [{**base_stages.get(str(stage.get("name")), {}), **stage} for stage in value]
        else:
            tree[key] = value
    return tree


def _is_list_of_tables(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2:
        raise ConfigError(f"--set {override!r} is not of the form section.key=value, such as train.seed=2.")
    node: Any = tree
    for key in keys[:-1]:
        node = _child(node, key, override)
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override!r} names a stage but no key. Example: stages.{keys[-1]}.epochs=3.")
    node[keys[-1]] = _parse_value(text.strip())


def _child(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        for stage in node:
            if stage.get("name") == key:
                return stage
        names = ", ".join(str(stage.get("name")) for stage in node)
        raise ConfigError(f"--set {override!r}: there is no stage {key!r}; the stages are {names}.")
    child = node.setdefault(key, {})
    if not isinstance(child, dict) and not _is_list_of_tables(child):
        raise ConfigError(f"--set {override!r}: {key!r} is a value, not a section.")
    return child


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # a bare word is a string: --set model.attention=mean

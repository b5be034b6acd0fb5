"""A study is one space on one data set: whatever bears its name and is not that is refused."""

import tomllib
from typing import Any

import optuna
from optuna.storages import BaseStorage

from mnsa.config import Config, parse_config
from mnsa.data.manifest import Manifest
from mnsa.errors import StudyError
from mnsa.search.storage import without_password

CONFIG, DATA, FOLDER = "config", "data", "folder"  # user attributes of an Optuna study


def require_free(storage: BaseStorage, url: str, name: str, config: Config, manifest: Manifest) -> None:
    """Refuse a name that the storage knows already. Raises: StudyError saying what it stands for there."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return
    require_same(study, config, manifest, without_password(url))
    raise StudyError(
        f"{without_password(url)} holds a study {name!r} already, of this space and data set. Work on it: "
        f"mnsa search --join {study.user_attrs.get(FOLDER)}; for a new one choose another --out."
    )


def require_same(study: optuna.Study, config: Config, manifest: Manifest, where: str) -> None:
    """Refuse a study of another space or another data set. Raises: StudyError naming it and the difference."""
    attrs, name = study.user_attrs, study.study_name
    data = attrs.get(DATA) or {"name": "unknown", "digest": ""}
    if data["digest"] != manifest.digest():
        raise StudyError(
            f"The study {name!r} in {where} was made on another data set ({data['name']}, {data['digest'][:12]}; here "
            f"{manifest.name}, {manifest.digest()[:12]}). Choose another --out, whose name the study bears, or storage."
        )
    theirs = parse_config(tomllib.loads(attrs[CONFIG]), source=f"study {name}")
    if theirs != config:
        raise StudyError(
            f"The study {name!r} in {where} searches another space: {_differences(theirs, config)}. "
            "Choose another --out, whose name the study bears, or another storage."
        )


def _differences(theirs: Config, ours: Config) -> str:
    """The keys in which two configs differ, three at most."""
    there, here = (_flat(config.model_dump()) for config in (theirs, ours))
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return "; ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in keys[:3])


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts and lists of them as one level of dotted keys."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat: dict[str, Any] = {}
    for key, value in pairs:
        nested = isinstance(value, dict) or (isinstance(value, tuple) and value and isinstance(value[0], dict))
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat

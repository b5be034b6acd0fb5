"""A study: created once, then any number of processes can join it, with the same config and data for all.

The study folder has the config, the data and the address of the storage. The storage has the trials.
A study of the same name with another search space or another data set is refused.
"""

import tomllib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import tomli_w
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from mnsa.config import Config, dump_config, load_config, parse_config
from mnsa.data.manifest import Manifest, read_manifest, write_manifest_files
from mnsa.data.validation.validate import require_valid
from mnsa.errors import DataError, StudyError, output_errors
from mnsa.io import lock, new_folder, read_toml
from mnsa.model.network import network_cost
from mnsa.search.sampling import SamplingPlan, make_pruner, make_sampling_plan
from mnsa.search.selection import parse_rule
from mnsa.search.space import SearchSpace, apply_point, build_search_space, cheapest_points
from mnsa.search.storage import absolute_url, open_storage, sqlite_url, strip_password
from mnsa.search.trial_queue import BUDGET_ATTR, LivenessMonitor, TrialQueue
from mnsa.study_folder import StudyFolder
from mnsa.training.preflight import require_trainable

# User attributes of an Optuna study. selected: the rule, and the number of the trial in best.toml or None.
CONFIG_ATTR, DATA_ATTR, FOLDER_ATTR, SELECTED_ATTR = "config", "data", "folder", "selected"


class StudySettings(NamedTuple):
    """The content of study.toml: name, storage URL (empty: the file in the folder), first budget, first rule."""

    name: str
    storage: str
    trials: int
    select: str


@dataclass(frozen=True)
class SearchStudy:
    """An open study."""

    folder: StudyFolder
    storage: str  # URL; empty: a file in the folder
    config: Config
    manifest: Manifest
    space: SearchSpace
    plan: SamplingPlan
    optuna: optuna.Study
    queue: TrialQueue

    @property
    def name(self) -> str:
        """The name in the storage."""
        return self.optuna.study_name

    @property
    def cost(self) -> str:
        """The cost of the Pareto front: the second objective, or else the multiply-adds."""
        return self.config.search.objectives[-1] if len(self.config.search.objectives) > 1 else "macs"

    @property
    def url(self) -> str:
        """The URL of the storage, without the password."""
        return strip_password(self.storage or sqlite_url(self.folder.database_file))


def create_study(
    config: Config, dataset: Path, out: Path, *, trials: int, storage: str | None = None, rule: str = "best"
) -> SearchStudy:
    """Create a study folder, and a study of the same name in the storage.

    trials: the budget. storage: URL; None: a file in the folder. rule: how a trial will be selected.
    Raises: StudyError, ConfigError, DataError, ModelError for bad input, before anything is created.
    """
    manifest = check_new_study(config, dataset, out, rule)
    url = absolute_url(storage) if storage else ""
    if not url and (special := set("?#%") & set(str(out.resolve()))):
        raise StudyError(
            f"{out} has {min(special)!r} in its path, which the URL of its database can't have. Rename it."
        )
    if url:
        require_free_name(open_storage(url), url, out.resolve().name, config, manifest)
    folder = StudyFolder(out)
    write_study_folder(folder, config, manifest, StudySettings(out.resolve().name, url, trials, rule))
    return _open_study(folder, url, config, manifest, _create_optuna_study(folder, url, config, manifest))


def check_new_study(config: Config, dataset: Path, out: Path, rule: str) -> Manifest:
    """Check that a study of this config and data set can begin in a new folder.

    Returns: the data set without its test rows. Raises: as `create_study`.
    """
    if out.exists():
        raise StudyError(
            f"{out} exists and was not changed. If it is a study, join it: mnsa search --join {out}. "
            "If not, choose another --out."
        )
    space = build_search_space(config)
    manifest = _without_test_rows(read_manifest(dataset))
    require_trainable(config, manifest)
    _require_reachable_limit(config, manifest, space, rule)
    require_valid(manifest)
    return manifest


def read_study_method(folder: StudyFolder) -> str:
    """Read `search.method` of a study. Raises: StudyError if the folder is no study; ConfigError."""
    read_study_settings(folder)
    return load_config(folder.config_file).search.method


def require_method(folder: StudyFolder, begun: str, method: str) -> None:
    """Raise StudyError if a study was begun with another method."""
    if begun != method:
        raise StudyError(
            f"{folder.path} was begun with search.method = {begun!r}, so it can't be used with {method!r}: "
            "their scores are not comparable. Begin a new study with --out."
        )


def join_study(path: Path, *, trials: int | None = None, storage: str | None = None) -> SearchStudy:
    """Open the study of a folder.

    trials: a higher budget. storage: URL of the storage for this machine, if it is not the one in study.toml.
    Raises: StudyError if the folder is no study, or the storage has another study of the same name.
    """
    folder = StudyFolder(path)
    settings = read_study_settings(folder)
    url = absolute_url(storage) if storage else settings.storage
    config, manifest = load_config(folder.config_file), read_manifest(folder.data_folder)
    require_method(folder, config.search.method, "trials")
    study = _load_optuna_study(folder, url, settings.name, may_be_new=storage is None)
    if study is None or BUDGET_ATTR not in study.user_attrs:  # the process that created the folder died too early
        study = _create_optuna_study(folder, url, config, manifest)
    require_compatible(study, config, manifest, _storage_label(url, folder))
    opened = _open_study(folder, url, config, manifest, study)
    if trials is not None:
        have = int(study.user_attrs.get(BUDGET_ATTR, 0))
        if trials < have:
            raise StudyError(
                f"Study {settings.name!r} has a budget of {have} trials; --trials {trials} can't lower it."
            )
        opened.queue.increase_budget(trials)
    return opened


def read_study_settings(folder: StudyFolder) -> StudySettings:
    """Read study.toml. Raises: StudyError."""
    try:
        settings = StudySettings(**read_toml(folder.study_file))
        for name, kind in StudySettings.__annotations__.items():
            if type(getattr(settings, name)) is not kind:
                raise TypeError(f"{name} is {getattr(settings, name)!r}")
    except (OSError, ValueError, TypeError) as error:
        raise StudyError(
            f"{folder.path} is no study: study.toml can't be read ({error!r}). "
            "Expected a folder of `mnsa search --out`."
        ) from None
    return settings


def require_free_name(storage: BaseStorage, url: str, name: str, config: Config, manifest: Manifest) -> None:
    """Raise StudyError if the storage already has a study of this name."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return
    require_compatible(study, config, manifest, strip_password(url))
    raise StudyError(
        f"{strip_password(url)} already has a study {name!r} of this space and data set. Join it: "
        f"mnsa search --join {study.user_attrs.get(FOLDER_ATTR)}. For a new study choose another --out."
    )


def require_compatible(study: optuna.Study, config: Config, manifest: Manifest, where: str) -> None:
    """Raise StudyError with the difference if a study has another search space or another data set."""
    attrs, name = study.user_attrs, study.study_name
    data = attrs.get(DATA_ATTR) or {"name": "unknown", "digest": ""}
    if data["digest"] != manifest.digest():
        raise StudyError(
            f"The study {name!r} in {where} uses another data set ({data['name']}, {data['digest'][:12]}; here "
            f"{manifest.name}, {manifest.digest()[:12]}). "
            "Choose another --out, which names the study, or another --storage."
        )
    stored = parse_config(tomllib.loads(attrs[CONFIG_ATTR]), source=f"study {name}")
    if stored != config:
        raise StudyError(
            f"The study {name!r} in {where} has another search space: {_differences(stored, config)}. "
            "Choose another --out, which names the study, or another --storage."
        )


def _without_test_rows(manifest: Manifest) -> Manifest:
    """Return the rows that a search may use: those of the training and validation splits."""
    return replace(manifest, rows=tuple(row for row in manifest.rows if row.split in ("train", "val")))


def _require_reachable_limit(config: Config, manifest: Manifest, space: SearchSpace, rule: str) -> None:
    """Raise StudyError if no network of the space is below the limit of the rule. This also builds a network."""
    classes = len(manifest.classes) if "classification" in config.tasks else 0
    costs = [
        network_cost(apply_point(config, point).model, classes, len(manifest.mask_classes), config.data.size).macs
        for point in cheapest_points(space)
    ]
    max_macs = parse_rule(rule)
    if max_macs is not None and max_macs < min(costs):
        raise StudyError(
            f"--select {rule} excludes every network: "
            f"the smallest network of the space has {min(costs) / 1e9:.4g} GMACs "
            f"for one image of {config.data.size[0]} x {config.data.size[1]} px."
        )


def write_study_folder(folder: StudyFolder, config: Config, manifest: Manifest, settings: StudySettings) -> None:
    """Write config, data and settings of a new study. Raises: StudyError."""
    try:
        with output_errors(folder.path, StudyError), new_folder(folder.path) as path:
            temporary = StudyFolder(path)
            temporary.data_folder.mkdir()
            write_manifest_files(manifest, temporary.data_folder)
            temporary.config_file.write_text(dump_config(config), encoding="utf-8")
            public = settings._replace(storage=strip_password(settings.storage))
            temporary.study_file.write_text(tomli_w.dumps(public._asdict()), encoding="utf-8")
    except DataError as error:
        raise StudyError(str(error)) from None


def _load_optuna_study(folder: StudyFolder, url: str, name: str, *, may_be_new: bool) -> optuna.Study | None:
    """Load the study from the storage; None if it was not created yet. Raises: StudyError if its trials are lost."""
    try:
        return optuna.load_study(study_name=name, storage=_open_folder_storage(folder, url))
    except KeyError:
        if may_be_new and not folder.path.joinpath("trials").exists():
            return None
        where = _storage_label(url, folder)
        raise StudyError(f"{where} has no study {name!r}, but {folder.path} belongs to it.") from None


def _open_folder_storage(folder: StudyFolder, url: str) -> BaseStorage:
    """Open the storage of a folder. One process at a time: the first one creates its tables."""
    with lock(folder.lock_file("queue")):
        return open_storage(url or sqlite_url(folder.database_file))


def _create_optuna_study(folder: StudyFolder, url: str, config: Config, manifest: Manifest) -> optuna.Study:
    """Create the study of a folder in the storage, or complete it; the budget is set last."""
    settings, store = read_study_settings(folder), _open_folder_storage(folder, url)
    directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in config.search.objectives[1:])]
    with lock(folder.lock_file("queue")), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(study_name=settings.name, storage=store, directions=directions, load_if_exists=True)
        here = str(folder.path.resolve())
        if study.user_attrs.get(FOLDER_ATTR, here) != here:
            raise StudyError(
                f"{_storage_label(url, folder)} already has a study {settings.name!r}. Choose another --out."
            )
        study.set_user_attr(FOLDER_ATTR, here)
        study.set_metric_names(list(config.search.objectives))
        study.set_user_attr(CONFIG_ATTR, dump_config(config))
        study.set_user_attr(DATA_ATTR, {"name": manifest.name, "digest": manifest.digest()})
        study.set_user_attr(SELECTED_ATTR, [settings.select, None])
        study.set_user_attr(BUDGET_ATTR, settings.trials)
    return study


def _open_study(folder: StudyFolder, url: str, config: Config, manifest: Manifest, study: optuna.Study) -> SearchStudy:
    space = build_search_space(config)
    plan = make_sampling_plan(space, config.search)
    study.pruner = make_pruner(config.search)
    queue = TrialQueue(study, folder.lock_file("queue"), LivenessMonitor(config.search.heartbeat_s), plan)
    return SearchStudy(folder, url, config, manifest, space, plan, study, queue)


def _storage_label(url: str, folder: StudyFolder) -> str:
    return strip_password(url) if url else str(folder.database_file)


def _differences(stored: Config, ours: Config) -> str:
    """Describe the keys in which two configs differ, at most three."""
    there, here = (_flatten(config.model_dump()) for config in (stored, ours))
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return "; ".join(f"{key} is {there.get(key)!r} there and {here.get(key)!r} here" for key in keys[:3])


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts, and lists of dicts, to one level of dotted keys."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat: dict[str, Any] = {}
    for key, value in pairs:
        nested = isinstance(value, dict) or (isinstance(value, tuple) and value and isinstance(value[0], dict))
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat

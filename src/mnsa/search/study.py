"""A study: made once, joined by any number of processes, and the same thing for all of them.

The folder says what is searched, on which data, and where the trials are; the storage holds the trials.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import optuna
import tomli_w
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection

from mnsa.config import Config, dump_config, load_config
from mnsa.data.check import require_sound
from mnsa.data.manifest import Manifest, fresh_folder, read_manifest, write_files
from mnsa.errors import DataError, StudyError
from mnsa.model.cost import network_cost
from mnsa.search.heartbeat import Watch
from mnsa.search.lock import locked
from mnsa.search.pick import parse_rule
from mnsa.search.queue import BUDGET, Queue
from mnsa.search.sameness import CONFIG, DATA, FOLDER, require_free, require_same
from mnsa.search.sampling import Plan, plan_of, pruner_of
from mnsa.search.space import Space, configured, smallest, space_of
from mnsa.search.storage import full_url, open_storage, sqlite_url, without_password
from mnsa.study_folder import StudyFolder
from mnsa.text_files import read_toml
from mnsa.training.requirements import require_trainable

PICKED = "picked"  # user attribute of an Optuna study: the rule, and the number of the trial in found.toml or None


@dataclass(frozen=True)
class Study:
    """A study that this process works on."""

    folder: StudyFolder
    storage: str  # its URL; empty: a file in the folder
    config: Config
    manifest: Manifest
    space: Space
    plan: Plan
    optuna: optuna.Study
    queue: Queue

    @property
    def name(self) -> str:
        """The name that the storage knows it by."""
        return self.optuna.study_name

    @property
    def cost(self) -> str:
        """What IoU is weighed against: the second objective, or else the multiply-adds."""
        return self.config.search.objectives[-1] if len(self.config.search.objectives) > 1 else "macs"

    @property
    def url(self) -> str:
        """Where its trials are, without a password."""
        return without_password(self.storage or sqlite_url(self.folder.database_file))


def create_study(
    config: Config, dataset: Path, out: Path, *, trials: int, storage: str | None = None, rule: str = "best"
) -> Study:
    """Make a study folder, and the study in its storage, which bears the folder's name.

    trials: the budget. storage: its URL; None: a file in the folder. rule: how one of its trials will be picked.
    Raises: StudyError, ConfigError, DataError, ModelError for bad input, before anything is made.
    """
    if out.exists():
        raise StudyError(
            f"{out} exists and nothing in it was touched. If it is a study, work on it: mnsa search --join {out}; "
            "if not, choose another --out."
        )
    space = space_of(config)
    manifest = _learnable(read_manifest(dataset))
    require_trainable(config, manifest)
    _require_affordable(config, manifest, space, rule)
    require_sound(manifest)
    url = full_url(storage) if storage else ""
    if url:
        require_free(open_storage(url), url, out.resolve().name, config, manifest)
    folder = StudyFolder(out)
    _write_folder(folder, config, manifest, Terms(out.resolve().name, url, trials, rule))
    return _opened(folder, url, config, manifest, _begin(folder, url, config, manifest))


def join_study(path: Path, *, trials: int | None = None, storage: str | None = None) -> Study:
    """Open the study of a folder.

    trials: a higher budget. storage: where this machine reaches it, if not as study.toml says.
    Raises: StudyError when the folder is no study, or the storage holds another one of its name.
    """
    folder = StudyFolder(path)
    terms = read_terms(folder)
    url = full_url(storage) if storage else terms.storage
    config, manifest = load_config(folder.config_file), read_manifest(folder.data_folder)
    study = _load(folder, url, terms.name, may_be_new=storage is None)
    if study is None or BUDGET not in study.user_attrs:  # its maker died on the way
        study = _begin(folder, url, config, manifest)
    require_same(study, config, manifest, _shown(url, folder))
    opened = _opened(folder, url, config, manifest, study)
    if trials is not None:
        have = int(study.user_attrs.get(BUDGET, 0))
        if trials < have:
            raise StudyError(f"Study {terms.name!r} has a budget of {have} trials; --trials {trials} can't lower it.")
        opened.queue.raise_budget(trials)
    return opened


class Terms(NamedTuple):
    """What study.toml says: name, storage (empty: the file in the folder), first budget, first rule."""

    name: str
    storage: str
    trials: int
    pick: str


def read_terms(folder: StudyFolder) -> Terms:
    """Read study.toml. Raises: StudyError."""
    try:
        terms = Terms(**read_toml(folder.study_file))
        if wrong := [name for name, kind in Terms.__annotations__.items() if type(getattr(terms, name)) is not kind]:
            raise TypeError(f"{wrong[0]} is {getattr(terms, wrong[0])!r}")
    except (OSError, ValueError, TypeError) as error:
        raise StudyError(
            f"{folder.path} is no study: study.toml can't be read ({error!r}). Expected what `mnsa search --out` made."
        ) from None
    return terms


def _learnable(manifest: Manifest) -> Manifest:
    """All that a search may see: no test rows, and no row without a split."""
    return replace(manifest, rows=tuple(row for row in manifest.rows if row.split in ("train", "val")))


def _require_affordable(config: Config, manifest: Manifest, space: Space, rule: str) -> None:
    """Refuse a budget of multiply-adds that no network of the space meets; and build one, to see that it can be."""
    classes = len(manifest.classes) if "classification" in config.tasks else 0
    costs = [
        network_cost(configured(config, point).model, classes, len(manifest.mask_classes), config.data.size).macs
        for point in smallest(space)
    ]
    budget = parse_rule(rule)
    if budget is not None and budget < min(costs):
        raise StudyError(
            f"--pick {rule} leaves nothing to pick: the smallest network of the space has {min(costs) / 1e9:.4g} GMACs "
            f"for one image of {config.data.size[0]} x {config.data.size[1]} px."
        )


def _write_folder(folder: StudyFolder, config: Config, manifest: Manifest, terms: Terms) -> None:
    try:
        with fresh_folder(folder.path) as path:
            unfinished = StudyFolder(path)
            unfinished.data_folder.mkdir()
            write_files(manifest, unfinished.data_folder)
            unfinished.config_file.write_text(dump_config(config), encoding="utf-8")
            kept = terms._replace(storage=without_password(terms.storage))
            unfinished.study_file.write_text(tomli_w.dumps(kept._asdict()), encoding="utf-8")
    except DataError as error:
        raise StudyError(str(error)) from None


def _load(folder: StudyFolder, url: str, name: str, *, may_be_new: bool) -> optuna.Study | None:
    """Find the study in its storage; None for a new folder's, not there yet. Raises: StudyError where it is lost."""
    try:
        return optuna.load_study(study_name=name, storage=open_storage(url or sqlite_url(folder.database_file)))
    except KeyError:
        if may_be_new and not folder.path.joinpath("trials").exists():
            return None
        where = _shown(url, folder)
        raise StudyError(f"{where} holds no study {name!r}, which {folder.path} belongs to.") from None


def _begin(folder: StudyFolder, url: str, config: Config, manifest: Manifest) -> optuna.Study:
    """Make the study that a folder describes in its storage, or finish making it; the budget comes last."""
    terms, store = read_terms(folder), open_storage(url or sqlite_url(folder.database_file))
    directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in config.search.objectives[1:])]
    with locked(folder.lock_file("queue")), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(study_name=terms.name, storage=store, directions=directions, load_if_exists=True)
        here = str(folder.path.resolve())
        if study.user_attrs.get(FOLDER, here) != here:
            raise StudyError(f"{_shown(url, folder)} holds a study {terms.name!r} already. Choose another --out.")
        study.set_user_attr(FOLDER, here)
        study.set_metric_names(list(config.search.objectives))
        study.set_user_attr(CONFIG, dump_config(config))
        study.set_user_attr(DATA, {"name": manifest.name, "digest": manifest.digest()})
        study.set_user_attr(PICKED, [terms.pick, None])
        study.set_user_attr(BUDGET, terms.trials)
    return study


def _opened(folder: StudyFolder, url: str, config: Config, manifest: Manifest, study: optuna.Study) -> Study:
    space = space_of(config)
    plan = plan_of(space, config.search)
    study.pruner = pruner_of(config.search)
    queue = Queue(study, folder.lock_file("queue"), Watch(config.search.heartbeat_s), plan)
    return Study(folder, url, config, manifest, space, plan, study, queue)


def _shown(url: str, folder: StudyFolder) -> str:
    return without_password(url) if url else str(folder.database_file)

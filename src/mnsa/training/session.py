"""What surrounds the training of a run: one process at a time, signals, failed writes, and the same config and data."""

import errno
import json
import logging
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mnsa.checked_files import DamagedFileError
from mnsa.config import Config, dump_config, parse_config
from mnsa.data.manifest import Manifest
from mnsa.data.validation.inspect import Inspection
from mnsa.errors import ConfigError, DataError, MnsaError, RunError, TrainingInterruptedError
from mnsa.io import atomic_write_text, lock, lock_owner, read_json, remove_temporaries
from mnsa.run_folder import RunFolder, read_run_config
from mnsa.signals import StopSignal, stop_signals
from mnsa.training.checkpoint import RECORD, STEP, read_checkpoint
from mnsa.training.out_of_memory import limited_memory

# Keys that change no result, so that they may be changed before a resume.
_FREE_KEYS = (
    "train.workers", "train.cache", "train.cache_gb", "train.loggers", "train.loader_timeout_s",
    "train.checkpoint_minutes", "train.on_nan",
)  # fmt: skip
_MAX_NAMED = 5

logger = logging.getLogger(__name__)


@contextmanager
def run_session(run: RunFolder, *, writes: bool) -> Iterator[None]:
    """Hold the lock of a run, stop on signals, name a limit of memory, raise failed reads and writes as RunError.

    writes: False in all processes but the first. Raises: RunError, also when another process trains the run;
    TrainingInterruptedError.
    """
    try:
        with stop_signals(), file_errors(run.path), limited_memory(), ExitStack() as stack:
            if writes:
                try:
                    stack.enter_context(lock(run.training_lock_file, timeout_s=0, names_owner=True))
                except TimeoutError:
                    owner = lock_owner(run.training_lock_file)
                    raise RunError(f"{run.path} is being trained by {owner}. Wait until it ends, or stop it.") from None
                remove_temporaries(run.path, ".csv", ".toml", ".owner")  # others may write reports and scores there
                remove_temporaries(run.model_folder)
            yield
    except StopSignal as stop:
        raise TrainingInterruptedError(
            f"Interrupted ({stop}). Complete epochs are saved. Continue with: mnsa train --resume {run.path}",
            stop.exit_code,
        ) from None


def read_config(run: RunFolder, *, writes: bool) -> Config:
    """Read the config of a run; restore it from a checkpoint if it is damaged. Raises: ConfigError."""
    try:
        return read_run_config(run)
    except ConfigError as error:
        last, step = (sorted(run.path.glob(f"checkpoints/*/{name}")) for name in ("last.ckpt", STEP))
        for path in [*last, *step]:
            with suppress(DamagedFileError, KeyError):
                config = parse_config(tomllib.loads(read_checkpoint(path)[RECORD]["config"]), str(path))
                if writes:
                    atomic_write_text(run.config_file, dump_config(config))
                    logger.warning(f"{error} It is restored from {path}.")
                return config
        raise


def add_epochs(run: RunFolder, config: Config, epochs: int, *, writes: bool) -> Config:
    """Make the last stage longer, in config.toml, too. epochs: in all. Raises: ConfigError for no more than before."""
    *others, last = config.stages
    if epochs <= last.epochs:
        raise ConfigError(
            f"--epochs {epochs} is the number of epochs of stage {last.name!r} in all, and {run.path} "
            f"has {last.epochs}. Give more."
        )
    longer = config.model_copy(update={"stages": (*others, last.model_copy(update={"epochs": epochs}))})
    if writes:
        atomic_write_text(run.config_file, dump_config(longer))
        rates = (
            "the learning rate stays"
            if last.schedule == "constant"
            else (f"the learning rate is that of a cosine over {epochs} epochs, which ends at 0 in the last one")
        )
        logger.info(f"{last.name}: {epochs} epochs instead of {last.epochs}; {rates}.")
    return longer


def require_same_config(config: Config, saved: str, run: RunFolder) -> None:
    """Refuse a config that would train another network than the one that a checkpoint holds.

    saved: the config in the checkpoint, as TOML. Raises: RunError that names the keys.
    """
    ours, theirs = (dict(_flatten(tomllib.loads(text))) for text in (dump_config(config), saved))
    changed = [
        f"{key} (was {theirs.get(key, 'absent')!r}, is {ours.get(key, 'absent')!r})"
        for key in dict.fromkeys([*theirs, *ours])
        if ours.get(key) != theirs.get(key) and not _is_free(key) and not _is_longer(key, config, theirs.get(key))
    ]
    if changed:
        raise RunError(
            f"{run.config_file} was changed since the run began: {_first_few(changed)}. Set it back, or start a new "
            "run with mnsa train --out."
        )


def dump_contents(manifest: Manifest, inspections: Sequence[Inspection]) -> str:
    """Return the SHA-256 of all images and masks that training reads, by path, as JSON."""
    return json.dumps(_contents(manifest, inspections), indent=0) + "\n"


def require_same_contents(run: RunFolder, manifest: Manifest, inspections: Sequence[Inspection]) -> None:
    """Refuse images and masks whose content has changed since the run began. Raises: DataError that names them."""
    if not run.dataset_files_file.is_file():
        return  # a trial of a search, which reads its own copy of the data
    try:
        before: Mapping[str, str] = dict(read_json(run.dataset_files_file, max_bytes=1 << 30))
    except (ValueError, TypeError) as error:
        raise RunError(f"{run.dataset_files_file} is damaged ({error}). Remove it, to resume without it.") from None
    now = _contents(manifest, inspections)
    if changed := [name for name in now if now[name] != before.get(name)]:
        raise DataError(
            f"{manifest.name}: the content of {len(changed)} files has changed since {run.path} began: "
            f"{_first_few(changed)}. Restore them, or start a new run with mnsa train --out."
        )


def _contents(manifest: Manifest, inspections: Sequence[Inspection]) -> dict[str, str]:
    contents = {}
    for row, inspection in zip(manifest.rows, inspections, strict=True):
        if row.split in ("train", "val"):
            for name, info in ((row.image, inspection.image), (row.mask, inspection.mask)):
                if info is not None:
                    contents[name] = info.digest
    return contents


@contextmanager
def file_errors(run: Path) -> Iterator[None]:
    """Raise a file of a run that is damaged, or can't be read or written, as RunError."""
    try:
        yield
    except DamagedFileError as error:
        raise RunError(
            f"{error.filename or run}: {error.strerror}. Resume again, or train into a new folder."
        ) from None
    except OSError as error:
        raise save_error(error, run) from None


def save_error(error: OSError, run: Path) -> MnsaError:
    """Make the message for a file that could not be written in training."""
    path, needs = error.filename or run, ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(run).free
        needed = getattr(error, "needed", None)
        needs = f" {_format_size(needed)} are needed and" if needed else ""
        needs = f":{needs} {_format_size(free)} are free below {run}. Make room"
    elif error.errno == errno.EFBIG:
        needs = ", which is more than the limit of this process (ulimit -f). Raise it"
    else:
        needs = ". Fix that"
    return RunError(
        f"{path} can't be written: {error.strerror or error}{needs}, then continue with: mnsa train --resume {run}. "
        "Epochs that were saved before are whole."
    )


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables by their keys, such as train.seed; a stage has its name."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(tree, list) and tree and all(isinstance(item, dict) for item in tree):
        for item in tree:
            yield from _flatten(item, f"{prefix}.{item['name']}")
    else:
        yield prefix, tree


def _is_longer(key: str, config: Config, before: Any) -> bool:
    """Check whether a key only makes the last stage longer: `add_epochs`."""
    last = config.stages[-1]
    return key == f"stages.{last.name}.epochs" and isinstance(before, int) and last.epochs > before


def _is_free(key: str) -> bool:
    return key in _FREE_KEYS or key.startswith("search.") or key.endswith(".batch_parts")


def _first_few(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _format_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"

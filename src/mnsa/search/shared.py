"""What all trials have in common is learnt once: the stages before the first with masks, as the paper's stage 1."""

import shutil

from mnsa.config import Config
from mnsa.data.manifest import Manifest
from mnsa.errors import RunError
from mnsa.run_folder import RunFolder, open_run
from mnsa.search.lock import locked
from mnsa.search.space import split_stages
from mnsa.study_folder import StudyFolder
from mnsa.training.fit import resume, train_checked


def share(folder: StudyFolder, config: Config, manifest: Manifest) -> None:
    """Train the shared stages, unless there are none or it is done; one process does it, the others wait.

    A worker that dies here leaves a run that the next one resumes. Raises: as `mnsa train`.
    """
    shared, _ = split_stages(config)
    if not shared:
        print("No stage comes before the masks, so each trial trains everything.", flush=True)  # noqa: T201
        return
    names = ", ".join(stage.name for stage in shared)
    with locked(folder.lock_file("shared"), waiting=f"Waiting for another worker to train {names}."):
        run = RunFolder(folder.shared_folder)
        if (run.model_folder / "model.safetensors").is_file():
            return
        print(f"Training {names} once, for all trials.", flush=True)  # noqa: T201
        if _is_begun(run):
            resume(run.path)
        else:
            alone = config.model_copy(update={"stages": shared})
            train_checked(alone, manifest, folder.data_folder, run.path)


def trial_config(folder: StudyFolder, config: Config) -> Config:
    """The config of one trial: its own stages, which start from what the shared ones have learnt."""
    shared, own = split_stages(config)
    if not shared:
        return config
    start = config.train.model_copy(update={"start_from": str(folder.shared_folder.resolve())})
    return config.model_copy(update={"train": start, "stages": own})


def _is_begun(run: RunFolder) -> bool:
    """Tell whether there is something to resume; what a worker left that died before the first file is removed."""
    try:
        open_run(run.path)
    except RunError:
        shutil.rmtree(run.path, ignore_errors=True)
        return False
    return True

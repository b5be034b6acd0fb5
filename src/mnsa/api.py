"""The functions of `import mnsa` that wrap a workflow. Data sets and runs are folders; paths may be text."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

from torch import nn

from mnsa.batch import predict_files as batch
from mnsa.batch.batching import local_device
from mnsa.batch.pipeline import Progress
from mnsa.batch.prediction_folder import is_prediction_folder
from mnsa.config import Config, load_config, override_config
from mnsa.data.formats.folders import import_folders as read_folders
from mnsa.data.manifest import Manifest, hold_out_test, read_manifest, write_manifest
from mnsa.data.photo_scale import PhotoScale, parse_scale_option
from mnsa.data.synthetic import synthesize as draw_leaves
from mnsa.engines.spec import EngineName, Precision
from mnsa.inference.calibration_file import Calibration
from mnsa.inference.image_input import ImageInput, to_sources
from mnsa.inference.predictor import Head, Predictor, load
from mnsa.metrics.scores import Evaluation
from mnsa.run_folder import RunFolder
from mnsa.training import fit
from mnsa.traits import TraitMeasurer, find_roles
from mnsa.workflows.calibrate import calibrate_all
from mnsa.workflows.evaluate import evaluate_run
from mnsa.workflows.export import ExportResult, export_run
from mnsa.workflows.fit_postprocessing import fit_after_training
from mnsa.workflows.plan import DEFAULT_BUDGET_S, PlannedTasks, TrainingPlan, plan_training
from mnsa.workflows.probe import ProbeResult, probe_dataset

AnyPath = str | PathLike[str]


def synthesize(
    out: AnyPath, *, cultivars: int = 12, per_cultivar: int = 20, size: int = 256, seed: int = 1, workers: int = 1
) -> Manifest:
    """Draw a data set of synthetic leaves, with vein masks and true traits, into a new folder.

    cultivars: number of classes. per_cultivar: leaves of each; 60 % are for training, 20 % for validation, 20 % for
    testing. size: side of an image, in pixels. workers: processes; they don't change the images.

    Raises: DataError if `out` exists or a number is out of range.
    """
    return draw_leaves(
        Path(out), cultivars=cultivars, per_cultivar=per_cultivar, size_px=size, seed=seed, workers=workers
    )


def import_folders(
    source: AnyPath,
    out: AnyPath,
    *,
    mask_classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    test_fraction: float | None = None,
    seed: int = 1,
) -> Manifest:
    """Make a data set from a folder of class folders. The images stay where they are.

    source: `[train|val|test/]CLASS/IMAGE`, with masks of the same file stem in `masks/`. out: new folder for
    manifest.csv and dataset.toml. mask_classes: names in order of pixel value; None: from the masks. val_fraction:
    fraction of the training images that becomes validation, if the source has no validation split. test_fraction:
    fraction of all images that becomes the test split, if the source has none; None: there is no test split then.

    Raises: DataError that names the file to fix.
    """
    manifest = read_folders(Path(source), mask_classes=mask_classes, val_fraction=val_fraction, seed=seed)
    write_manifest(manifest, Path(out))
    if test_fraction is not None and not any(row.split == "test" for row in manifest.rows):
        return hold_out_test(Path(out), test_fraction, seed=seed)
    return read_manifest(Path(out))


def plan(data: AnyPath, *, budget_s: float = DEFAULT_BUDGET_S, tasks: PlannedTasks = "auto") -> TrainingPlan:
    """Plan a training: a config (`.config`) made from the data, this machine and a time budget, with its reasons.

    budget_s: seconds that training may take. tasks: `auto`, `classification`, `segmentation` or `both`; `auto`: those
    that the rows have labels and masks for.

    Raises: DataError, ConfigError for data that can't be trained on, and for a budget too short for one epoch.
    """
    return plan_training(Path(data), budget_s=budget_s, tasks=tasks)


def train(
    config: Config | AnyPath | None,
    data: AnyPath,
    out: AnyPath,
    *,
    overrides: Iterable[str] = (),
    devices: int = 1,
    progress: bool | None = None,
) -> RunFolder:
    """Train a network on a data set, and return its run folder.

    config: a Config, a TOML file, the name of a config that comes with the package, such as `small`, or None for that
    of `plan(data)`. data: data set folder. out: new run folder. overrides: texts of the form `section.key=value`.
    devices: number of processes, one GPU each if there are GPUs. progress: show a
    progress bar; None: on a terminal and in a notebook.

    Raises: ConfigError, DataError, ModelError, RunError for bad input, before training starts.
    """
    if config is None:
        config = plan(data).config
    settings = (
        override_config(config, overrides) if isinstance(config, Config) else load_config(Path(config), overrides)
    )
    run = fit.train(settings, Path(data), Path(out), devices=devices, progress=progress)
    fit_after_training(run)
    return run


def resume(run: AnyPath, *, data: AnyPath | None = None, devices: int = 1, progress: bool | None = None) -> RunFolder:
    """Continue an interrupted training run. data: where the data set is now. devices, progress: as in `train`.

    Raises: RunError if `run` is no run folder, or its data set has changed.
    """
    dataset = None if data is None else Path(data)
    resumed = fit.resume(Path(run), dataset=dataset, devices=devices, progress=progress)
    fit_after_training(resumed)
    return resumed


def evaluate(
    run: AnyPath | RunFolder,
    *,
    split: str = "test",
    data: AnyPath | None = None,
    head: Head = "network",
    tta: Sequence[str] = (),
    traits: bool = False,
    mask_threshold: float | None = None,
    repair: bool | None = None,
) -> Evaluation:
    """Evaluate a run on one split, at the original image size, and return its scores.

    `.value("accuracy")` and `.score("iou", "vein")` look up scores; `.scores` lists them. They are also written to
    RUN/evaluation.json, and a row per image to RUN/predictions. split: `train`, `val` or `test`. data: another data set
    than the run's own. head: `network`, or the boosted `trees`. tta: test-time augmentation, of `flips`, `rot90`,
    `scales`. traits: also measure the true and the predicted masks. mask_threshold, repair: as `load`.

    Raises: RunError, DataError, ModelError, ConfigError.
    """
    roles = {"vein": (), "leaf": (), "lesion": ()} if traits else None
    return evaluate_run(
        _run_path(run), split=split, dataset=None if data is None else Path(data), head=head, tta=tta, traits=roles,
        mask_threshold=mask_threshold, repair=repair,
    )  # fmt: skip


def probe(
    data: AnyPath,
    *,
    config: Config | AnyPath | None = None,
    run: AnyPath | RunFolder | None = None,
    sizes: Sequence[tuple[int, int]] = (),
    split: Literal["val", "test"] = "val",
    progress: Progress | None = None,
) -> ProbeResult:
    """Fit linear classifiers to the features of a frozen backbone: the baseline that a trained network has to beat.

    `.rows` has the validation accuracy of logistic regression and nearest class mean, for levels 4, 5 and both, at each
    size; `.best` is the best of them. config: the backbone and its weights, as a Config or a TOML file; None: the
    `small` preset. run: use the backbone of this run. sizes: (height, width) of the inputs; empty: two. split: `test`
    also scores the best row on the test rows (`.test`), which are read only then. progress: called with (finished, all,
    finished) images.

    Raises: DataError, ConfigError, ModelError, RunError.
    """
    if config is not None and not isinstance(config, Config):
        config = load_config(Path(config))
    return probe_dataset(
        Path(data), config=config, run=None if run is None else _run_path(run), sizes=sizes, split=split,
        progress=progress,
    )  # fmt: skip


def calibrate(run: AnyPath | RunFolder, *, target: float = 0.95, data: AnyPath | None = None) -> Calibration | None:
    """Fit the temperature and the threshold for `unknown` on the validation split, and write RUN/calibration.json.

    Where validation images have masks, RUN/postprocessing.json is written, too: how masks are made.
    target: fraction of correct predictions among those that are not `unknown`. data: another data set than the run's.
    Returns: None when only masks could be fitted.

    Raises: RunError, DataError, ModelError.
    """
    return calibrate_all(_run_path(run), target=target, dataset=None if data is None else Path(data)).classes


def export(
    run: AnyPath | RunFolder,
    engine: EngineName,
    *,
    precision: Precision = "float32",
    out: AnyPath | None = None,
    data: AnyPath | None = None,
    agreement: float | None = None,
) -> ExportResult:
    """Export the network of a run for `onnx`, `openvino` or `torch`, after comparing it with the original.

    precision: `float32`, `bfloat16` (openvino) or `int8` (onnx, openvino). out: new folder; None: in RUN/exports.
    data: another data set than the run's own. agreement: smallest fraction of equal labels, and mask IoU, that is
    accepted for bfloat16 (default 0.97) and int8 (0.9).

    Raises: ModelError if the exported network differs too much; RunError, DataError.
    """
    return export_run(
        _run_path(run), engine, precision=precision, out=None if out is None else Path(out),
        dataset=None if data is None else Path(data), agreement=agreement,
    )  # fmt: skip


def predict_files(
    model: Predictor | RunFolder | AnyPath,
    images: ImageInput | Iterable[ImageInput],
    out: AnyPath,
    *,
    traits: bool = False,
    px_per_mm: float | str | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> batch.PredictionSummary:
    """Predict image files into a folder: predictions.csv, masks/, overlays/ and a contact sheet.

    model: a Predictor, or what `mnsa.load` takes. images: files, folders, globs or addresses (https://...) as text, PIL
    images, arrays (H, W, 3), tensors (3, H, W); one or a list. out: new folder, or one that a call with the same
    arguments made: it is continued, and new images are added. traits: measure the masks, one column per trait.
    px_per_mm: scale in pixels per millimeter, or as text `dpi`, `marker` or a CSV file, as in `mnsa predict`; None:
    traits are in pixels. batch_size: images per batch; None: 4 on a CPU, 32 on a GPU. progress: called with (finished,
    all, finished by this call).
    A file that can't be read has its reason in the column `error`; the others are predicted.

    Raises: DataError if no image is found; RunError if `out` is something else.
    """
    predictor = model if isinstance(model, Predictor) else load(_run_path(model))
    if not isinstance(model, Predictor):
        predictor.network.to(local_device())
    scale = parse_scale_option(px_per_mm) if isinstance(px_per_mm, str) else px_per_mm
    photo_scale, number = (scale, 1.0) if isinstance(scale, PhotoScale) else (None, scale)
    measurer = TraitMeasurer(find_roles(predictor.mask_classes), px_per_mm=number) if traits else None
    folder = Path(out)
    found = to_sources(images, folder if is_prediction_folder(folder) else None)
    return batch.predict_files(
        predictor, found, folder, measurer=measurer, photo_scale=photo_scale, batch_size=batch_size,
        options=_options(predictor), progress=progress,
    )  # fmt: skip


def write_report(run: AnyPath | RunFolder) -> Path:
    """Write RUN/report.html, one page with scores, curves, images and provenance. Needs the extra `report`.

    Raises: RunError if `run` is no run folder.
    """
    from mnsa.report.run_page import write_run_report

    folder = RunFolder(_run_path(run))
    write_run_report(folder)
    return folder.report_file


def _run_path(run: AnyPath | RunFolder) -> Path:
    return run.path if isinstance(run, RunFolder) else Path(run)


def _options(predictor: Predictor) -> dict[str, str]:
    """What `mnsa predict` records of a prediction folder beside the network: another head or engine is refused."""
    head = predictor.network.class_head
    is_linear = head is None or isinstance(head.classifier, nn.Linear)
    engine = "none" if predictor.engine is predictor.network else repr(predictor.engine)
    return {"head": "network" if is_linear else "trees", "engine": engine}

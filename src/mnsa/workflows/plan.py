"""`mnsa plan`, and `mnsa train` without a config: a config made from the data, this machine and a time budget."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from mnsa.batch.batching import local_device
from mnsa.config import Config, parse_config
from mnsa.config.section import Task
from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.rows import Row
from mnsa.errors import ConfigError
from mnsa.metrics.topology import is_thin_class, mask_topology
from mnsa.model.network import STRIDE_PX
from mnsa.training.out_of_memory import out_of_memory_message
from mnsa.training.preflight import require_trainable
from mnsa.weights import VEINS
from mnsa.workflows.training_cost import FEWEST_AT_ONCE, TrainingCost, TrainingMemory, measure_training

DEFAULT_BUDGET_S = 30 * 60.0
PlannedTasks = Literal["auto", "classification", "segmentation", "both"]
Size = tuple[int, int]

_LOOKED_AT = 8  # training images that are opened, to measure sizes, thin structures and time
_RESERVE = 0.8  # part of the budget for the epochs; the rest is for checks, postprocessing, and other programs
_LONGER_SIDES = (512, 448, 384, 320, 256, 224)  # of an input, in pixels
_SHORTEST_SIDE = 128  # tiny images are enlarged to this
_CROP_PX = 256
_CROPS_PER_EPOCH = 200
_BATCH_SIZES = (8, 4, FEWEST_AT_ONCE)  # the learning rate is for the first; it is good for half of it, too
_MIN_EPOCHS, _MAX_EPOCHS = 10, 60
_ENOUGH_STEPS, _MAX_STEPS = 800, 4000  # a smaller input is planned where there is no time for enough steps
_VALIDATION_COST = 0.4  # time for a validation image, in that of a training image of its size
_UNEVEN_REASON = "; weights, as balanced sampling would leave out images of frequent classes and their masks"
_UNEVEN = 1.5  # images of the largest class for one of the smallest, from which on the loss is weighted


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a plan. name: what was chosen. value: how. reason: in a few words."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A config for one data set on one machine. choices: why it is so. estimate_s: seconds that training will take."""

    config: Config
    choices: tuple[Choice, ...]
    estimate_s: float


@dataclass(frozen=True, slots=True)
class _Survey:
    """What a plan needs to know of the data.

    train, val: numbers of images that the tasks can use. height, width: medians, in pixels. thin: thin mask classes.
    class_sizes: labeled training images of each class. rows: the training rows that were looked at. left_out: why a
    task is not planned, of which the rows have labels or masks.
    """

    tasks: tuple[Task, ...]
    train: int
    val: int
    height: int
    width: int
    thin: tuple[str, ...]
    class_sizes: tuple[int, ...]
    rows: tuple[Row, ...]
    left_out: str = ""

    @property
    def takes_crops(self) -> bool:
        """Whether inputs keep the scale of the images: where thin structures would vanish, and no label needs all."""
        return self.tasks == ("segmentation",) and bool(self.thin) and min(self.height, self.width) > 1.5 * _CROP_PX

    @property
    def starts_from_veins(self) -> bool:
        """Whether the network of veins in the package is the start: for crops, and a thin class that is named so."""
        return self.takes_crops and any("vein" in name.lower() for name in self.thin)

    @property
    def is_uneven(self) -> bool:
        return bool(self.class_sizes) and max(self.class_sizes) > _UNEVEN * min(self.class_sizes)


@dataclass(frozen=True, slots=True)
class _Schedule:
    """Input size (h, w), images of an epoch and of a batch, number of epochs, and seconds for one."""

    size: Size
    images: int
    batch_size: int = _BATCH_SIZES[0]
    epochs: int = 1
    epoch_s: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, self.images // self.batch_size)


def plan_training(
    dataset: Path, *, budget_s: float = DEFAULT_BUDGET_S, tasks: PlannedTasks = "auto", seed: int = 1
) -> TrainingPlan:
    """Plan a training of the `small` network: tasks, input, loss, batch, and as many epochs as there is time for.

    Opens a few training images, and runs a few training steps to measure time and memory. budget_s: seconds that
    training may take. tasks: `auto`: those that the rows have labels and masks for.
    Raises: DataError; ConfigError for data that can't be trained on, and for too little time or memory.
    """
    manifest = read_manifest(dataset)
    chosen, left_out = _choose_tasks(manifest, tasks)
    survey = replace(_survey(manifest, chosen), left_out=left_out)
    size = min(_input_sizes(survey), key=lambda size: abs(max(size) - _CROP_PX))
    cost = measure_training(_make_config(survey, _Schedule(size, 1), seed), replace(manifest, rows=survey.rows))
    schedule = _fit_budget(survey, budget_s, cost)
    config = _make_config(survey, schedule, seed)
    require_trainable(config, manifest)
    estimate_s = schedule.epochs * schedule.epoch_s / _RESERVE
    return TrainingPlan(config, tuple(_explain(survey, schedule, budget_s, cost.memory)), estimate_s)


def _choose_tasks(manifest: Manifest, tasks: PlannedTasks) -> tuple[tuple[Task, ...], str]:
    """Choose the tasks that the rows allow; with a text on a task of which they have some labels or masks, but too few.

    Raises: ConfigError when a wanted one is impossible, or all are.
    """
    missing: dict[Task, str] = {}
    classes, val_classes = ({row.label for row in manifest.split(name).rows if row.label} for name in ("train", "val"))
    if len(classes) < 2 or not val_classes:
        missing["classification"] = (
            f"classification needs two classes or more in split `train`, and labels in `val`: there are {len(classes)} "
            f"classes in `train` and {len(val_classes)} in `val`"
        )
    train, val = (sum(bool(row.mask) for row in manifest.split(name).rows) for name in ("train", "val"))
    if not (manifest.mask_classes and train and val):
        missing["segmentation"] = (
            f"segmentation needs masks in the splits `train` and `val`: there are {train} in `train` and {val} in `val`"
        )
    wanted: tuple[Task, ...] = ("classification", "segmentation")
    if tasks == "classification" or tasks == "segmentation":  # noqa: PLR1714 - mypy narrows no `in`
        wanted = (tasks,)
    possible = tuple(task for task in wanted if task not in missing)
    if not possible or (tasks != "auto" and len(possible) < len(wanted)):
        raise ConfigError(
            f"{manifest.name}: {'; '.join(missing[task] for task in wanted if task in missing)}. Add what is missing "
            "to manifest.csv, divide the rows again (mnsa split), or choose another task with --tasks."
        )
    used = {"classification": any(row.label for row in manifest.rows), "segmentation": bool(train or val)}
    return possible, "; ".join(missing[task] for task in wanted if task in missing and used[task])


def _survey(manifest: Manifest, tasks: tuple[Task, ...]) -> _Survey:
    def usable(split: str) -> list[Row]:
        rows = manifest.split(split).rows
        return [
            row for row in rows if (row.label and "classification" in tasks) or (row.mask and "segmentation" in tasks)
        ]

    train = usable("train")
    rows = [row for row in train if row.mask] if "segmentation" in tasks else train
    rows = rows[:: -(-len(rows) // _LOOKED_AT)]
    samples = [read_sample(manifest, row) for row in rows]
    height, width = (round(median(sample.image.shape[side] for sample in samples)) for side in (1, 2))
    thin: tuple[str, ...] = ()
    if "segmentation" in tasks:
        masks = [sample.mask.numpy() for sample in samples if sample.mask is not None]
        topology = np.stack([mask_topology(mask, mask, len(manifest.mask_classes)) for mask in masks])  # (N, M)
        thin = tuple(name for index, name in enumerate(manifest.mask_classes) if is_thin_class(topology[:, index]))
    counts = Counter(row.label for row in train if row.label and "classification" in tasks)
    return _Survey(tasks, len(train), len(usable("val")), height, width, thin, tuple(counts.values()), tuple(rows))


def _input_sizes(survey: _Survey) -> list[Size]:
    """Possible sizes (h, w) of an input, in whole cells of level 5, the largest first.

    They have the shape of the median image, and at most its size; `_CROP_PX` where inputs are crops.
    """
    if survey.takes_crops:
        return [(_CROP_PX, _CROP_PX)]
    sides = survey.height, survey.width
    longer_sides = [side for side in _LONGER_SIDES if side < max(sides) + STRIDE_PX] or [max(_SHORTEST_SIDE, *sides)]
    scales = (longer / max(sides) for longer in longer_sides)
    sizes = [tuple(max(1, round(side * scale / STRIDE_PX)) * STRIDE_PX for side in sides) for scale in scales]
    return list(dict.fromkeys((height, width) for height, width in sizes))


def _batch_sizes(survey: _Survey, memory: TrainingMemory | None) -> dict[Size, int]:
    """The batch size of each possible input that fits in memory: of more than two images, where there is such an input.

    Raises: ConfigError when two images of the smallest input don't fit.
    """
    sizes = _input_sizes(survey)
    if memory is None:
        return dict.fromkeys(sizes, _BATCH_SIZES[0])
    fitting = {size: next((count for count in _BATCH_SIZES if memory.fits(count, size)), 0) for size in sizes}
    least = min(_BATCH_SIZES[1], max(fitting.values()))
    if not least:
        stage = _make_config(survey, _Schedule(sizes[-1], 1, FEWEST_AT_ONCE), seed=0).stages[-1]
        raise ConfigError(out_of_memory_message(stage, FEWEST_AT_ONCE, *sizes[-1]))
    return {size: count for size, count in fitting.items() if count >= least}


def _fit_budget(survey: _Survey, budget_s: float, cost: TrainingCost) -> _Schedule:
    """Choose the largest input with memory, and time for enough steps, then as many epochs as there is time for.

    Raises: ConfigError when there is no memory for two images, or no time for one epoch.
    """
    available, schedules = budget_s * _RESERVE, []
    images = max(survey.train, _CROPS_PER_EPOCH // survey.train * survey.train if survey.takes_crops else 0)
    for size, batch_size in _batch_sizes(survey, cost.memory).items():
        pixels = size[0] * size[1]
        validated = survey.height * survey.width if survey.takes_crops else pixels
        train_s = cost.read_s + cost.pixel_s * pixels
        val_s = cost.read_s + cost.pixel_s * _VALIDATION_COST * validated
        epoch_s = images * train_s + survey.val * val_s
        schedule = _Schedule(size, images, batch_size, epoch_s=epoch_s)
        most = min(
            max(_MAX_EPOCHS, -(-_ENOUGH_STEPS // schedule.steps)), max(_MIN_EPOCHS, _MAX_STEPS // schedule.steps)
        )
        schedule = replace(schedule, epochs=min(int(available / epoch_s), most))
        if schedule.epochs >= _MIN_EPOCHS and schedule.epochs * schedule.steps >= _ENOUGH_STEPS:
            return schedule
        schedules.append(schedule)
    best = schedules[-1]
    if best.epochs == 0:
        raise ConfigError(
            f"One epoch of {best.images} images takes about {best.epoch_s:.2g} s on this machine, at {best.size[0]} x "
            f"{best.size[1]} px. That is more than {_RESERVE:.0%} of the budget of {budget_s:g} s. Give more time, for "
            f"{_MIN_EPOCHS} epochs: --budget {-(-best.epoch_s * _MIN_EPOCHS / _RESERVE // 60):.0f}m."
        )
    return best


def _make_config(survey: _Survey, schedule: _Schedule, seed: int) -> Config:
    """Make the config. Learning rates, augmentation and loss: benchmarks/RESULTS.md, "How training starts"."""
    classifies, segments = ("classification" in survey.tasks), ("segmentation" in survey.tasks)
    parts = ["backbone"]
    parts += ["attention", "class_head"] if classifies else []
    parts += ["enhancer", "decoder"] if segments else []
    tree: dict[str, Any] = {
        "data": {"size": schedule.size},
        "augment": {
            "horizontal_flip": 0.5, "vertical_flip": 0.5, "rotation_deg": 20.0, "zoom": 0.15, "color_jitter": 0.15,
        },
        "loss": {},
        "train": {"seed": seed, "ema_decay": _ema_decay(schedule), "workers": _loader_workers()},
        "stages": [
            {
                "name": "joint" if len(survey.tasks) == 2 else survey.tasks[0], "tasks": survey.tasks,
                "trainable": parts, "epochs": schedule.epochs, "batch_size": schedule.batch_size, "lr": 1e-3,
                "backbone_lr": 1e-3, "weight_decay": 1e-2, "warmup_epochs": min(1.0, schedule.epochs / 10),
            }
        ],
    }  # fmt: skip
    if survey.takes_crops:
        tree["data"] |= {"resize_mode": "crop", "crops_per_epoch": schedule.images}
        tree["augment"] = {
            "horizontal_flip": 0.5, "vertical_flip": 0.5, "rot90": 0.5, "color_jitter": 0.3, "hue": 0.5,
        }  # fmt: skip
    if survey.starts_from_veins:
        tree["model"] = {"pretrained": VEINS}
    if survey.thin:
        tree["loss"] |= {"cldice": 0.5, "thin_classes": survey.thin}
    if classifies:
        tree["loss"] |= {"label_smoothing": 0.1, "class_weights": "balanced" if survey.is_uneven else "none"}
    return parse_config(tree, source="the plan")


def _ema_decay(schedule: _Schedule) -> float:
    """The decay of an average over a tenth of the steps, at most 100: a longer one would hold untrained weights."""
    return round(1 - 10 / min(1000, max(100, schedule.epochs * schedule.steps)), 4)


def _loader_workers() -> int:
    """Processes that read images: with a GPU the cores but one, at most 8; without, the network needs all cores."""
    return min(8, (os.cpu_count() or 1) - 1) if local_device().type == "cuda" else 0


def _explain(survey: _Survey, schedule: _Schedule, budget_s: float, memory: TrainingMemory | None) -> Iterator[Choice]:
    """Say what was chosen, and why."""
    classes, size = len(survey.class_sizes), f"{schedule.size[0]} x {schedule.size[1]} px"
    found = [f"labels of {classes} classes"] if classes else []
    found += ["masks"] if "segmentation" in survey.tasks else []
    reason = f"{survey.train} training images with {' and '.join(found)}"
    yield Choice(
        "tasks", " and ".join(survey.tasks), reason + (f"; {survey.left_out}" if survey.left_out else "")
    )  # fmt: skip
    photos = f"the images have {survey.height} x {survey.width} px"
    if survey.takes_crops:
        thin = ", ".join(survey.thin)
        yield Choice("input", f"crops of {size}", f"{photos}, and {thin} would vanish if they were resized")
    else:
        larger = schedule.size != _input_sizes(survey)[0]
        yield Choice("input", f"resized to {size}", photos + (", and larger inputs need more time" if larger else ""))
    if survey.starts_from_veins:
        yield Choice("start", VEINS, "the network of `mnsa veins` has seen thousands of drawn leaves")
    if survey.thin:
        yield Choice("mask loss", "cross-entropy, Dice, clDice", f"{', '.join(survey.thin)}: thin, and must not break")
    if classes:
        fewest, most = min(survey.class_sizes), max(survey.class_sizes)
        counts = f"{most} images per class" if fewest == most else f"{fewest} to {most} images per class"
        yield Choice(
            "class weights",
            "balanced" if survey.is_uneven else "none",
            counts + (_UNEVEN_REASON if survey.is_uneven else ""),
        )
    yield Choice("batch", f"{schedule.batch_size} images", _explain_batch(schedule, memory))
    steps, epoch = schedule.epochs * schedule.steps, f"{schedule.epoch_s:.{0 if schedule.epoch_s >= 10 else 1}f}"
    enough = ", enough for this data set" if schedule.epochs * schedule.epoch_s < 0.9 * _RESERVE * budget_s else ""
    yield Choice(
        "epochs", str(schedule.epochs),
        f"{steps} steps; {epoch} s for one epoch on this machine{enough}",
    )  # fmt: skip


def _explain_batch(schedule: _Schedule, memory: TrainingMemory | None) -> str:
    """Say what a batch needs of the memory."""
    if memory is None:
        return "this system does not tell how much memory they need; a batch that does not fit is divided"

    def gigabytes(images: int) -> str:
        return f"{memory.needed_bytes(images, schedule.size) / 1e9:.1f} GB"

    free, size = f"{memory.available_bytes / 1e9:.1f} GB are free", schedule.batch_size
    if size < _BATCH_SIZES[0]:
        return f"they need {gigabytes(size)}, measured, and {_BATCH_SIZES[0]} need {gigabytes(_BATCH_SIZES[0])}; {free}"
    return f"they need {gigabytes(size)} at once, measured; {free}"

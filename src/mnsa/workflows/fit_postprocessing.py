"""Choose how the masks of a run are made, on its validation images: `mnsa calibrate`, and the end of `mnsa train`.

Each step is kept only if the validation score improves, as in nnU-Net (Isensee et al. 2021, Nature Methods 18).
N images; M mask classes; H, W image size in pixels.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mnsa.batch.batching import local_device
from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.validate import require_valid
from mnsa.errors import MnsaError
from mnsa.inference.postprocessing import ClassPostprocessing, MaskMaker, Postprocessing, ProbabilityMaker
from mnsa.inference.postprocessing_file import FittedPostprocessing, save_postprocessing
from mnsa.inference.predictor import Predictor
from mnsa.inference.repair import Repair
from mnsa.metrics import topology
from mnsa.metrics.functional import nanmean
from mnsa.model_folder import load_network
from mnsa.run_folder import ModelSpec, RunFolder, find_run_dataset, open_run_folder, read_run_config, weights_digest
from mnsa.signals import is_rank_zero
from mnsa.structures import IGNORE_INDEX
from mnsa.workflows.evaluate import require_same_classes
from mnsa.workflows.export import evenly_spaced

MIN_MASKS = 3  # validation images with a mask

MAX_IMAGES = 32  # whose probabilities are in memory, and are postprocessed about 40 times

MAX_SIDE_PX = 704  # of the part of an image that is used, around its mask

MIN_GAIN = 0.001  # of the objective, for a step to be kept

MAX_DICE_LOSS = 0.005  # that a better topology may cost

RULE = (
    f"each step that improves Dice by at least {MIN_GAIN}; for a thin class, the mean of clDice, areole F1 and the "
    f"agreement of the numbers of components and of holes, where Dice is lower by at most {MAX_DICE_LOSS} and the sum "
    "of the Betti errors does not grow"
)

_SPLIT = "val"

_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

_LOW_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4)

_MIN_PROBS = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3)

_MIN_MEAN_PROBS = (0.1, 0.15, 0.2, 0.3)

_HOLES_PX = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)

_PIECES_PX = (0.0, 4.0, 10.0, 30.0, 100.0)

_BIAS_STEPS = (1.0, 0.5, 0.25)

_BIAS_PIXELS = 1_000_000  # that the bias is chosen by

Choices = Callable[[Postprocessing], Iterable[Postprocessing]]

logger = logging.getLogger(__name__)


class Example(NamedTuple):
    """One validation image, or the part of it around its mask.

    probs: 255 times the probabilities, uint8 (M, H, W). truth: class indices or IGNORE_INDEX, uint8 (H, W). scale:
    pixels of the image per pixel of the network's input, along a side.
    """

    probs: np.ndarray
    truth: np.ndarray
    scale: float


class ClassScores(NamedTuple):
    """The scores of one mask class. objective: what is made as large as possible. values: by name."""

    objective: float
    dice: float
    is_thin: bool
    values: dict[str, float]

    @property
    def betti_error(self) -> float:
        """The sum of the Betti errors; 0 for a class that is not thin."""
        return self.values.get("betti0_error", 0.0) + self.values.get("betti1_error", 0.0)


def fit_postprocessing(path: Path, *, dataset: Path | None = None) -> FittedPostprocessing | None:
    """Choose the postprocessing of a run on its validation images, and save it in RUN/postprocessing.json.

    dataset: folder of another data set than the run's own.
    Returns: None, and no file is written, when the network has no mask classes or fewer than MIN_MASKS validation
    images have a mask. Raises: RunError, DataError.
    """
    run = open_run_folder(path)
    network, spec = load_network(path)
    manifest = read_manifest(find_run_dataset(run, dataset))
    rows = replace(manifest, rows=tuple(row for row in manifest.rows if row.split == _SPLIT and row.mask))
    if not spec.mask_classes or len(rows.rows) < MIN_MASKS:
        return None
    predictor = Predictor(network, spec)
    predictor.network.to(local_device())
    require_same_classes(predictor, rows)
    require_valid(rows)
    examples = list(_predict_examples(predictor, rows))
    chosen = choose_postprocessing(examples, spec)
    scores = {
        when: {name: _score(examples, name, spec, one).values for name in _foreground(spec.mask_classes)}
        for when, one in (("before", Postprocessing()), ("after", chosen))
    }
    digests = manifest.digest(), weights_digest(path)
    fitted = FittedPostprocessing(
        chosen, RULE, _SPLIT, len(examples), scores, manifest.name, *digests, summary=describe(chosen)
    )
    save_postprocessing(path, fitted)
    return fitted


def fit_after_training(run: RunFolder) -> None:
    """Choose the postprocessing of a run that has just been trained, if its config says so, in the first process.

    A data set that can't be read any more is only logged.
    """
    config = read_run_config(run)
    if not is_rank_zero() or not config.train.postprocessing:
        return
    if "segmentation" in config.tasks:
        logger.info("Choosing how masks are made, on the validation images")
    try:
        fitted = fit_postprocessing(run.path)
    except MnsaError as error:
        logger.warning("Masks are made with the threshold 0.5: %s", error)
        return
    if fitted is not None:
        logger.info("Masks: %s", fitted.summary)


def describe(postprocessing: Postprocessing) -> str:
    """Say what was chosen, in one line."""
    parts = [] if postprocessing.bias else [f"threshold {postprocessing.threshold:g}"]
    parts += ["bias " + ", ".join(f"{value:g}" for value in postprocessing.bias)] if postprocessing.bias else []
    for name, one in postprocessing.classes.items():
        steps = [f"hysteresis from {one.low_threshold:g}"] if one.low_threshold is not None else []
        if one.repair is not None:
            steps.append(f"gaps closed from {one.repair.min_prob:g}, mean {one.repair.min_mean_prob:g}")
        steps += [f"holes below {one.min_hole_px:g} px filled"] if one.min_hole_px else []
        steps += [f"pieces below {one.min_area_px:g} px removed"] if one.min_area_px else []
        parts += [f"{name}: {', '.join(steps)}"] if steps else []
    return "; ".join(parts)


def choose_postprocessing(examples: Sequence[Example], spec: ModelSpec) -> Postprocessing:
    """Choose the threshold, or the bias of several classes, then what is done to each thin class.

    spec: of the network that the probabilities are of.
    """
    chosen = Postprocessing()
    if len(spec.mask_classes) > 1:
        chosen = Postprocessing(bias=choose_bias(examples, len(spec.mask_classes)))
    for name in _foreground(spec.mask_classes):
        plain = _score(examples, name, spec, Postprocessing())
        steps: list[Choices] = [_thresholds] if len(spec.mask_classes) == 1 else []
        if plain.is_thin:
            gaps, means, holes, pieces = (partial(one, name) for one in (_gaps, _means, _holes, _pieces))
            # what only takes away comes first: a gap is closed only if that is still better afterwards
            steps = [pieces, holes, *steps, gaps, *steps, gaps, means, holes, pieces]
        chosen = search_steps(partial(_score, examples, name, spec), chosen, steps, plain.dice - MAX_DICE_LOSS)
    return chosen


def choose_bias(examples: Sequence[Example], classes: int) -> tuple[float, ...]:
    """Choose what is added to the logits of each class, by coordinate search for the mean Dice of all classes.

    Returns: () when it gains less than MIN_GAIN.
    """
    step = max(1, sum(one.truth.size for one in examples) // _BIAS_PIXELS)
    probs = np.concatenate([one.probs.reshape(classes, -1)[:, ::step] for one in examples], axis=1)
    truth = np.concatenate([one.truth.ravel()[::step] for one in examples])
    known = truth != IGNORE_INDEX
    logits, truth = np.log(np.maximum(probs[:, known], 0.5) / 255), truth[known].astype(np.intp)

    def score(bias: np.ndarray) -> float:
        pairs = np.bincount(truth * classes + (logits + bias[:, None]).argmax(0), minlength=classes**2)
        table = pairs.reshape(classes, classes)
        areas = table.sum(0) + table.sum(1)
        return nanmean(np.divide(2 * table.diagonal(), areas, out=np.full(classes, np.nan), where=table.sum(1) > 0))

    bias = np.zeros(classes)
    best = plain = score(bias)
    for size in _BIAS_STEPS:
        moves = [sign * size * np.eye(classes)[index] for index in range(1, classes) for sign in (1, -1)]
        improved = True
        while improved:
            tried = [(score(bias + move), n) for n, move in enumerate(moves)]
            gain, n = max(tried)
            improved = gain > best
            if improved:
                best, bias = gain, bias + moves[n]
    return tuple(bias.tolist()) if best >= plain + MIN_GAIN else ()


def search_steps(
    score: Callable[[Postprocessing], ClassScores], start: Postprocessing, steps: Sequence[Choices], min_dice: float
) -> Postprocessing:
    """Take the best choice of each step, if it is better than what there is by MIN_GAIN and its Dice is high enough.

    Nor may the Betti errors grow: of many holes, the agreement alone would give up some for a better outline.
    """
    plain = score(start)
    best, objective, betti_error = start, plain.objective, plain.betti_error
    known = {repr(start): plain}
    for choices in steps:
        tried = list(choices(best))
        for one in tried:
            if repr(one) not in known:
                known[repr(one)] = score(one)
        allowed = []
        for one in tried:
            scores = known[repr(one)]
            if scores.dice >= min_dice and scores.betti_error <= betti_error:
                allowed.append(one)
        if not allowed:
            continue
        largest = max(known[repr(one)].objective for one in allowed)
        if largest >= objective + MIN_GAIN:
            equal = [one for one in allowed if known[repr(one)].objective == largest]
            best, objective = equal[len(equal) // 2], largest  # the middle is the farthest from where it gets worse
            betti_error = known[repr(best)].betti_error
    return best


def _thresholds(now: Postprocessing) -> Iterator[Postprocessing]:
    return (replace(now, threshold=value) for value in _THRESHOLDS)


def _gaps(name: str, now: Postprocessing) -> Iterator[Postprocessing]:
    """Hysteresis or repair, from several probabilities; a repair that is there is changed by one step, or given up."""
    repair = _of_class(now, name).repair
    if repair is not None:
        yield _change(now, name, repair=None)
    for value in _MIN_PROBS:
        if repair is None or abs(_MIN_PROBS.index(value) - _MIN_PROBS.index(repair.min_prob)) <= 1:
            yield _change(now, name, low_threshold=None, repair=Repair(value, value))
    if repair is None:
        yield from (_change(now, name, low_threshold=value) for value in _LOW_THRESHOLDS)


def _means(name: str, now: Postprocessing) -> Iterator[Postprocessing]:
    repair = _of_class(now, name).repair
    if repair is not None:
        values = (value for value in _MIN_MEAN_PROBS if value > repair.min_prob)
        yield from (_change(now, name, repair=replace(repair, min_mean_prob=value)) for value in values)


def _holes(name: str, now: Postprocessing) -> Iterator[Postprocessing]:
    return (_change(now, name, min_hole_px=value) for value in _HOLES_PX)


def _pieces(name: str, now: Postprocessing) -> Iterator[Postprocessing]:
    return (_change(now, name, min_area_px=value) for value in _PIECES_PX)


def _of_class(now: Postprocessing, name: str) -> ClassPostprocessing:
    return now.classes.get(name, ClassPostprocessing())


def _change(now: Postprocessing, name: str, **values: Any) -> Postprocessing:
    return replace(now, classes={**now.classes, name: replace(_of_class(now, name), **values)})


def _score(examples: Sequence[Example], name: str, spec: ModelSpec, postprocessing: Postprocessing) -> ClassScores:
    """Score the masks of one class that postprocessing makes of the examples."""
    maker = MaskMaker(postprocessing, spec.mask_classes, spec.data)
    value = spec.mask_classes.index(name) + (len(spec.mask_classes) == 1)
    rows, pixels = [], np.zeros(3)
    for one in examples:
        maps = maker.decide_probs(torch.from_numpy(one.probs).float() / 255)
        predicted = (maker.finish(maps, one.scale) == value) & (one.truth != IGNORE_INDEX)
        true = one.truth == value
        pixels += [np.count_nonzero(predicted & true), np.count_nonzero(predicted), np.count_nonzero(true)]
        rows.append(topology.measure_topology(predicted, true))
    table = np.array(rows, dtype=topology.TOPOLOGY_DTYPE)
    dice = 2 * float(pixels[0] / (pixels[1] + pixels[2])) if pixels[2] else float("nan")  # none without a true pixel
    if not topology.is_thin_class(table):
        return ClassScores(dice, dice, is_thin=False, values=_finite({"dice": dice}))
    parts = [topology.mean_cl_dice(table), topology.areole_f1(table)]
    parts += [_agreement(table, kind) for kind in ("components", "holes")]
    names = ("cldice", "areole_f1", "betti0_error", "betti1_error", "length_bias", "areole_count_bias")
    metrics = (topology.mean_cl_dice, topology.areole_f1, topology.betti0_error, topology.betti1_error)
    values = {"dice": dice} | {
        key: metric(table)
        for key, metric in zip(names, (*metrics, topology.length_bias, topology.areole_count_bias), strict=True)
    }
    return ClassScores(nanmean(np.array(parts)), dice, is_thin=True, values=_finite(values))


def _agreement(table: np.ndarray, kind: str) -> float:
    """Mean over images of 2 min(a, b) / (a + b), for the predicted and the true number of `components` or `holes`."""
    predicted, true = table[f"{kind}_predicted"], table[f"{kind}_true"]
    total = predicted + true
    return nanmean(np.divide(2 * np.minimum(predicted, true), total, out=np.full(len(table), np.nan), where=total > 0))


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _foreground(mask_classes: Sequence[str]) -> Sequence[str]:
    return mask_classes if len(mask_classes) == 1 else mask_classes[1:]


def _predict_examples(predictor: Predictor, manifest: Manifest) -> Iterator[Example]:
    maker = ProbabilityMaker.replacing(predictor.mask_maker)
    for row in evenly_spaced(manifest.rows, MAX_IMAGES):
        sample = read_sample(manifest, row)
        probs = predictor.predict_image(sample.image, sample.path, maker).mask
        if probs is None or sample.mask is None:
            continue
        truth = sample.mask.numpy()
        window = tuple(_window(truth, axis) for axis in (0, 1))
        part = (slice(None), *window)
        yield Example(probs[part].copy(), truth[window].copy(), maker.scale_of(truth.shape))


def _window(truth: np.ndarray, axis: int) -> slice:
    """The part of an axis that is used: MAX_SIDE_PX around the middle of what is not background."""
    length = truth.shape[axis]
    there = np.flatnonzero((truth != 0).any(1 - axis))
    middle = (int(there[0]) + int(there[-1])) // 2 if len(there) else length // 2
    first = max(0, min(middle - MAX_SIDE_PX // 2, length - MAX_SIDE_PX))
    return slice(first, first + MAX_SIDE_PX)

"""Generate a data set of synthetic leaves with several processes. The result does not depend on their number."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.manifest import Manifest, Row, new_dataset_folder, read_manifest, write_manifest_files
from mnsa.data.synthetic.drawn_leaf import draw_leaf
from mnsa.data.synthetic.leaf_shape import make_cultivar
from mnsa.errors import DataError

IMAGE_SIDE_MM = 110.0  # so the leaves are 78 to 87 mm long

MIN_VALUES = {"size": 64, "seed": 0}  # the minimum of other options is 1

MAX_SIZE_PX = 2048

FOLDERS = ("images", "vein_masks", "leaf_masks")


class SynthesisPlan(NamedTuple):
    """Numbers of cultivars and of leaves per cultivar, image size, and seed."""

    cultivars: int
    per_cultivar: int
    size_px: int
    seed: int


def synthesize(out: Path, *, cultivars: int, per_cultivar: int, size_px: int, seed: int, workers: int) -> Manifest:
    """Write a data set of `cultivars` times `per_cultivar` leaves into the new folder `out`. An error leaves no folder.

    The first 60 % of each cultivar are for training, the next 20 % for validation, the rest for testing.
    Raises: DataError when `out` exists or a number is out of range.
    """
    _validate_numbers(cultivars=cultivars, per_cultivar=per_cultivar, size=size_px, seed=seed, workers=workers)
    plan = SynthesisPlan(cultivars, per_cultivar, size_px, seed)
    with new_dataset_folder(out) as folder:
        for name in FOLDERS:
            (folder / name).mkdir()
        classes = tuple(make_cultivar(seed, index).name for index in range(cultivars))
        manifest = Manifest(out.name, folder.resolve(), classes, ("vein",), _write_leaves(plan, folder, workers))
        write_manifest_files(manifest, folder)
    return read_manifest(out)


def _write_leaves(plan: SynthesisPlan, folder: Path, workers: int) -> tuple[Row, ...]:
    write = partial(_write_leaf, plan, folder)
    jobs = product(range(plan.cultivars), range(plan.per_cultivar))
    if workers == 1:
        return tuple(map(write, jobs))
    # Spawn, not fork: a forked process would copy locks that other threads of the caller hold.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return tuple(pool.map(write, jobs, chunksize=4))


def _write_leaf(plan: SynthesisPlan, folder: Path, job: tuple[int, int]) -> Row:
    index, individual = job
    cultivar = make_cultivar(plan.seed, index)
    source = np.random.SeedSequence([plan.seed, index, individual])
    leaf = draw_leaf(cultivar, np.random.Generator(np.random.PCG64(source)), plan.size_px)
    stem = f"{cultivar.name}_{individual:04d}"
    image, vein_mask, leaf_mask = f"images/{stem}.jpg", f"vein_masks/{stem}.png", f"leaf_masks/{stem}.png"
    Image.fromarray(leaf.image).save(folder / image, quality=95)
    Image.fromarray(leaf.vein_mask).save(folder / vein_mask)
    Image.fromarray(leaf.leaf_mask).save(folder / leaf_mask)
    return Row(
        image=image,
        mask=vein_mask,
        label=cultivar.name,
        split=_split_of_individual(individual, plan.per_cultivar),
        px_per_mm=plan.size_px / IMAGE_SIDE_MM,
        extra={"leaf_mask": leaf_mask, **leaf.traits.columns()},
    )


def _split_of_individual(individual: int, per_cultivar: int) -> str:
    fraction = (individual + 0.5) / per_cultivar
    return "train" if fraction < 0.6 else "val" if fraction < 0.8 else "test"


def _validate_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        lowest = MIN_VALUES.get(name, 1)
        if number < lowest:
            raise DataError(f"--{name.replace('_', '-')} is {number}; expected {lowest} or more.")
    if numbers["size"] > MAX_SIZE_PX:
        raise DataError(
            f"--size is {numbers['size']}; expected {MAX_SIZE_PX} or less, as memory grows with its square."
        )

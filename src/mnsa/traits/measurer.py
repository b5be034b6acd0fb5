"""Measure the traits of a mask, given the roles of its classes, the reference area and the scale.

A pool of processes measures while the network runs. This module imports no torch, so the processes start fast.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Lock, Thread
from typing import Literal, NamedTuple

import numpy as np

from mnsa.errors import ConfigError, DataError
from mnsa.traits.records import (
    SCALE_COLUMN,
    AreoleTraits,
    MaskTraits,
    VeinTraits,
    column_names,
    to_columns,
    validate_scale,
)
from mnsa.traits.regions import convex_hull, measure_areoles, measure_leaf, measure_lesions
from mnsa.traits.veins import measure_veins

DEFAULT_MASK_CLASS = "foreground"  # also the class of 0/1 and 0/255 masks in `mnsa import`

_USUAL_NAMES = {
    "vein": ("vein", "veins", "vessel", "vessels", DEFAULT_MASK_CLASS),
    "leaf": ("leaf",),
    "lesion": ("symptom", "symptoms", "lesion", "lesions", "disease"),
}

_ALL_USUAL_NAMES = frozenset(name for names in _USUAL_NAMES.values() for name in names)

ReferenceArea = Literal["hull", "image"]

Measure = Callable[[np.ndarray, "float | None"], dict[str, str]]  # mask, and its own scale in place of the measurer's

_FEW_IMAGES = 16  # measuring so few images takes less time than the start of a process


class Roles(NamedTuple):
    """Pixel values of vein, leaf and lesion; () when no class has that role."""

    vein: tuple[int, ...]
    leaf: tuple[int, ...]
    lesion: tuple[int, ...]

    def select_pixels(self, mask: np.ndarray, role: str) -> np.ndarray | None:
        """Select the pixels of a role in a mask (H, W) of class indices: bool (H, W), or None without such a class.

        Veins and lesions are part of the leaf.
        """
        values = getattr(self, role)
        if not values:
            return None
        pixels = mask.astype(np.uint8) if mask.dtype == np.bool_ else mask  # booleans of Pillow are stored as 0 and 255
        return np.isin(pixels, self.vein + self.leaf + self.lesion if role == "leaf" else values)


def find_roles(
    mask_classes: Sequence[str], *, vein: Sequence[str] = (), leaf: Sequence[str] = (), lesion: Sequence[str] = ()
) -> Roles:
    """Find the roles of mask classes: by the given names, or for a role without given names by its usual names.

    Raises: ConfigError when a given name is no mask class, two roles have the same class, or no role is found.
    """
    given = {"vein": vein, "leaf": leaf, "lesion": lesion}
    first = 1 if len(mask_classes) == 1 else 0
    listed = ", ".join(mask_classes) or "none"
    if unknown := [name for names in given.values() for name in names if name not in mask_classes]:
        raise ConfigError(f"There is no mask class {unknown[0]!r}; the mask classes are: {listed}.")
    taken = [name for names in given.values() for name in names]
    if len(set(taken)) < len(taken):
        raise ConfigError(f"One mask class can't have two roles: {', '.join(taken)}. Name each class once.")
    values: dict[str, tuple[int, ...]] = {
        role: tuple(
            value
            for value, name in enumerate(mask_classes, start=first)
            if name in names or (not names and name not in taken and name.lower() in _USUAL_NAMES[role])
        )
        for role, names in given.items()
    }
    if not any(values.values()):
        raise ConfigError(
            f"None of the mask classes has a usual name of veins, leaf or lesions; they are: {listed}. "
            f"Name them with --vein NAME, --leaf NAME or --lesion NAME."
        )
    return Roles(**values)


def find_roles_or_none(
    mask_classes: Sequence[str], *, vein: Sequence[str] = (), leaf: Sequence[str] = (), lesion: Sequence[str] = ()
) -> Roles | None:
    """Find roles as `find_roles`. Return None when no names are given and no mask class has a usual name.

    Raises: ConfigError when a given name is no mask class, or two roles have the same class.
    """
    if not (vein or leaf or lesion) and not any(name.lower() in _ALL_USUAL_NAMES for name in mask_classes):
        return None
    return find_roles(mask_classes, vein=vein, leaf=leaf, lesion=lesion)


@dataclass(frozen=True, slots=True)
class TraitMeasurer:
    """Measures masks. roles: of the mask classes. px_per_mm: scale, or None for traits in pixels.

    reference_area: of the vein density when there is no leaf: convex hull of the veins, or the whole image.
    separate_leaf_mask: the leaf is given in a second mask. Raises: ConfigError for an invalid scale.
    """

    roles: Roles
    px_per_mm: float | None = None
    reference_area: ReferenceArea = "hull"
    separate_leaf_mask: bool = False

    def __post_init__(self) -> None:
        validate_scale(self.px_per_mm)

    @property
    def columns(self) -> list[str]:
        """The columns of `measure_row`, in order."""
        parts = {"leaf": self.roles.leaf or self.separate_leaf_mask, "vein": self.roles.vein, "areole": self.roles.vein}
        parts["lesion"] = self.roles.lesion
        return column_names(tuple(part for part, there in parts.items() if there), self.px_per_mm)

    @property
    def table_columns(self) -> list[str]:
        """The columns of a table: those of `columns`, and before them the scale if there is one."""
        return [*([] if self.px_per_mm is None else [SCALE_COLUMN]), *self.columns]

    def measure_row(self, mask: np.ndarray, leaf: np.ndarray | None = None) -> dict[str, str]:
        """Measure a mask as `measure`; return text by column, in the units of this measurer."""
        return to_columns(self.measure(mask, leaf), self.px_per_mm)

    def measure_row_at(self, mask: np.ndarray, px_per_mm: float | None) -> dict[str, str]:
        """Measure a mask as `measure_row`, at a scale of its own; None: at that of this measurer."""
        return (self if px_per_mm is None else replace(self, px_per_mm=px_per_mm)).measure_row(mask)

    def measure(self, mask: np.ndarray, leaf: np.ndarray | None = None) -> MaskTraits:
        """Measure a mask of class indices (H, W); results are in pixels.

        leaf: a separate leaf mask (H, W), 0 outside of the leaf; veins and lesions outside of it are ignored.
        Raises: DataError when the masks differ in size.
        """
        veins, lesions = (self.roles.select_pixels(mask, role) for role in ("vein", "lesion"))
        if leaf is None:
            leaf = self.roles.select_pixels(mask, "leaf")
        elif leaf.shape != mask.shape:
            raise DataError(
                f"The leaf's mask is {_format_size(leaf)} pixels; expected {_format_size(mask)}, the size of the mask."
            )
        else:
            leaf = leaf != 0
            veins, lesions = (None if part is None else part & leaf for part in (veins, lesions))
        vein, areole = (None, None) if veins is None else self._vein_parts(veins, leaf)
        return MaskTraits(
            leaf=None if leaf is None else measure_leaf(leaf),
            vein=vein,
            areole=areole,
            lesion=None if lesions is None else measure_lesions(lesions, leaf),
        )

    def _vein_parts(self, veins: np.ndarray, leaf: np.ndarray | None) -> tuple[VeinTraits, AreoleTraits]:
        if leaf is not None:
            reference_area, name = leaf, "leaf"
        else:
            reference_area, name = (
                convex_hull(veins) if self.reference_area == "hull" else np.ones_like(veins),
                self.reference_area,
            )
        return measure_veins(veins, reference_area, name, leaf), measure_areoles(veins, reference_area)


class _Pool:
    """Processes that measure. One that is killed costs its masks a second attempt, each in a process of its own."""

    def __init__(self, measurer: TraitMeasurer, processes: int) -> None:
        self._measurer, self._processes = measurer, processes
        self._executor = _start_processes(processes)
        self._lock = Lock()

    def measure(self, mask: np.ndarray, px_per_mm: float | None) -> dict[str, str]:
        """Measure like `TraitMeasurer.measure_row_at`. Thread-safe. Raises: DataError."""
        executor = self._executor
        try:
            return executor.submit(self._measurer.measure_row_at, mask, px_per_mm).result()
        except BrokenProcessPool:
            with self._lock:
                if self._executor is executor:  # the other masks that it had broke at the same time
                    self._executor = _start_processes(self._processes)
        executor.shutdown(wait=False)
        with self._lock, _start_processes(1) as alone:
            try:
                return alone.submit(self._measurer.measure_row_at, mask, px_per_mm).result()
            except BrokenProcessPool:
                raise DataError(
                    "The process that measured them was killed twice, most likely because memory ran out."
                ) from None

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def measurement_pool(measurer: TraitMeasurer, *, images: int, processes: int) -> Iterator[Measure]:
    """Give a function like `TraitMeasurer.measure_row_at` that runs in a pool of processes; it is thread-safe.

    Measuring is mostly Python code: in a thread it would block the network's thread. The processes end with their
    parent process, even if it is killed. The function raises DataError for a mask whose process is killed twice.
    """
    if images <= _FEW_IMAGES:
        yield measurer.measure_row_at
        return
    pool = _Pool(measurer, processes)
    try:
        yield pool.measure
    finally:
        pool.close()


def _start_processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_init_worker)


def _format_size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"


def _init_worker() -> None:
    """Ignore Ctrl-C, as the parent process ends the pool; exit when the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)

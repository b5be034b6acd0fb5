"""Measure the traits of a mask, given the roles of its classes, the reference area and the scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from mnsa.errors import ConfigError, DataError
from mnsa.traits.records import AreoleTraits, MaskTraits, VeinTraits, column_names, to_columns, validate_scale
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

    def measure_row(self, mask: np.ndarray, leaf: np.ndarray | None = None) -> dict[str, str]:
        """Measure a mask as `measure`; return text by column, in the units of this measurer."""
        return to_columns(self.measure(mask, leaf), self.px_per_mm)

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


def _format_size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"

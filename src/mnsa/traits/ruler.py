"""What measures a mask: it knows which classes are what, what the veins' area is, and the scale."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mnsa.errors import DataError
from mnsa.traits.areoles import measure_areoles
from mnsa.traits.columns import check_scale, column_names, to_columns
from mnsa.traits.hull import convex_hull
from mnsa.traits.leaf import measure_leaf
from mnsa.traits.lesions import measure_lesions
from mnsa.traits.records import AreoleTraits, Traits, VeinTraits
from mnsa.traits.roles import Roles
from mnsa.traits.veins import measure_veins

Ground = Literal["hull", "image"]


@dataclass(frozen=True, slots=True)
class Ruler:
    """roles: what the mask's classes are. px_per_mm: pixels per millimetre, or None: then everything is in pixels.

    ground: what the veins' density relates to where there is no leaf: their convex hull, or the whole image.
    leaf_apart: whether the leaf comes as a mask of its own.
    Raises: ConfigError when the scale is none.
    """

    roles: Roles
    px_per_mm: float | None = None
    ground: Ground = "hull"
    leaf_apart: bool = False

    def __post_init__(self) -> None:
        check_scale(self.px_per_mm)

    @property
    def columns(self) -> list[str]:
        """The columns of `row`, in order."""
        parts = {"leaf": self.roles.leaf or self.leaf_apart, "vein": self.roles.vein, "areole": self.roles.vein}
        parts["lesion"] = self.roles.lesion
        return column_names(tuple(part for part, there in parts.items() if there), self.px_per_mm)

    def row(self, mask: np.ndarray, leaf: np.ndarray | None = None) -> dict[str, str]:
        """Measure a mask as `measure` does; values by column, in this ruler's units."""
        return to_columns(self.measure(mask, leaf), self.px_per_mm)

    def measure(self, mask: np.ndarray, leaf: np.ndarray | None = None) -> Traits:
        """Measure a mask of class indices, (H, W), in pixels. leaf: 0 outside the leaf, (H, W), when it comes apart.

        What lies outside a leaf that comes apart is no vein and no lesion.
        Raises: DataError when the two differ in size.
        """
        veins, lesions = (self.roles.pixels_of(mask, role) for role in ("vein", "lesion"))
        if leaf is None:
            leaf = self.roles.pixels_of(mask, "leaf")
        elif leaf.shape != mask.shape:
            raise DataError(f"The leaf's mask is {_size(leaf)} pixels; expected {_size(mask)}, as the mask itself.")
        else:
            leaf = leaf != 0
            veins, lesions = (None if part is None else part & leaf for part in (veins, lesions))
        vein, areole = (None, None) if veins is None else self._vein_parts(veins, leaf)
        return Traits(
            leaf=None if leaf is None else measure_leaf(leaf),
            vein=vein,
            areole=areole,
            lesion=None if lesions is None else measure_lesions(lesions, leaf),
        )

    def _vein_parts(self, veins: np.ndarray, leaf: np.ndarray | None) -> tuple[VeinTraits, AreoleTraits]:
        if leaf is not None:
            ground, name = leaf, "leaf"
        else:
            ground, name = convex_hull(veins) if self.ground == "hull" else np.ones_like(veins), self.ground
        return measure_veins(veins, ground, name, leaf), measure_areoles(veins, ground)


def _size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"

"""Which mask classes are leaf, veins and lesions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnsa.errors import ConfigError

UNNAMED = "foreground"  # what `mnsa import` calls the class of 0/1 and 0/255 masks, too
_USUAL = {
    "vein": ("vein", "veins", "vessel", "vessels", UNNAMED),
    "leaf": ("leaf",),
    "lesion": ("symptom", "symptoms", "lesion", "lesions", "disease"),
}


_ALL_USUAL = frozenset(name for names in _USUAL.values() for name in names)


class Roles(NamedTuple):
    """Pixel values that mean vein, leaf and lesion; () where no class has that role."""

    vein: tuple[int, ...]
    leaf: tuple[int, ...]
    lesion: tuple[int, ...]

    def pixels_of(self, mask: np.ndarray, role: str) -> np.ndarray | None:
        """Where a mask of class indices (H, W) shows this role: bool (H, W), or None when no class has it.

        Veins and lesions are part of the leaf.
        """
        values = getattr(self, role)
        if not values:
            return None
        pixels = mask.astype(np.uint8) if mask.dtype == np.bool_ else mask  # Pillow's booleans are 0 and 255 inside
        return np.isin(pixels, self.vein + self.leaf + self.lesion if role == "leaf" else values)


def find_roles(
    mask_classes: Sequence[str], *, vein: Sequence[str] = (), leaf: Sequence[str] = (), lesion: Sequence[str] = ()
) -> Roles:
    """Find the roles of mask classes by their usual names, or for each role by the names given for it.

    Raises: ConfigError when a given name is no mask class, two roles share one, or no role is found.
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
            if name in names or (not names and name not in taken and name.lower() in _USUAL[role])
        )
        for role, names in given.items()
    }
    if not any(values.values()):
        raise ConfigError(
            f"None of the mask classes is known as veins, leaf or lesions; they are: {listed}. "
            f"Say which is which with --vein NAME, --leaf NAME or --lesion NAME."
        )
    return Roles(**values)


def roles_if_any(
    mask_classes: Sequence[str], *, vein: Sequence[str] = (), leaf: Sequence[str] = (), lesion: Sequence[str] = ()
) -> Roles | None:
    """Find roles as `find_roles` does, but None when nobody named any and no mask class has a usual name.

    Raises: ConfigError when a given name is no mask class, or two roles share one.
    """
    if not (vein or leaf or lesion) and not any(name.lower() in _ALL_USUAL for name in mask_classes):
        return None
    return find_roles(mask_classes, vein=vein, leaf=leaf, lesion=lesion)

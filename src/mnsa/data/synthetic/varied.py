"""Draw leaves of every kind: many outlines, venations, ways of imaging, backgrounds and scales.

`draw_varied_leaf` is a function of seed, index and size alone, so images can also be drawn while a network trains.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.data.manifest import Manifest, Row, new_dataset_folder, read_manifest, write_manifest_files
from mnsa.data.synthetic.generate import validate_numbers, write_rows
from mnsa.data.synthetic.varied_layers import place_leaves, rasterize, sample_view
from mnsa.data.synthetic.varied_photo import render, sample_appearance, visible_orders
from mnsa.data.synthetic.varied_shape import sample_species

MIN_PX_PER_MM, MAX_PX_PER_MM = 2.0, 40.0

MIN_LENGTH_MM, MAX_LENGTH_MM = 12.0, 250.0  # of leaves


@dataclass(frozen=True, slots=True)
class VariedLeaf:
    """An image with its masks. S: side in pixels.

    image: uint8 (S, S, 3), sRGB. vein_orders: uint8 (S, S), 0 no vein, 1 midribs and petioles, 2 secondary veins,
    3 tertiary and finer veins; only veins that are visible. leaf_mask: uint8 (S, S), 0 or 255; no petioles.
    midrib_width_px: of the midrib in its middle.
    """

    image: np.ndarray
    vein_orders: np.ndarray
    leaf_mask: np.ndarray
    px_per_mm: float
    outline: str
    venation: str
    view: str
    imaging: str
    background: str
    midrib_width_px: float
    visible_orders: tuple[int, ...]

    def vein_mask(self, max_order: int = 3) -> np.ndarray:
        """The visible veins up to an order, uint8 (S, S), 0 or 255."""
        inside = (self.vein_orders > 0) & (self.vein_orders <= max_order)
        return np.where(inside, 255, 0).astype(np.uint8)

    def columns(self) -> dict[str, str]:
        """What was drawn, as text, by column of the manifest."""
        return {
            "outline": self.outline,
            "venation": self.venation,
            "view": self.view,
            "imaging": self.imaging,
            "background": self.background,
            "midrib_width_px": f"{self.midrib_width_px:.4g}",
            "visible_orders": "".join(map(str, self.visible_orders)),
        }


def synthesize_varied(
    out: Path, *, images: int, size_px: int, seed: int, workers: int, max_order: int = 3, class_per_order: bool = False
) -> Manifest:
    """Write a data set of `images` varied leaves into the new folder `out`. An error leaves no folder.

    Of each 20 images, 18 are for training, one is for validation and one for testing. max_order: highest order of veins
    in the masks, 1 to 3; 3 includes all finer veins. class_per_order: mask classes vein1, vein2, vein3 instead of vein.
    Raises: DataError when `out` exists or a number is out of range.
    """
    validate_numbers(images=images, size=size_px, seed=seed, workers=workers, max_order=max_order)
    classes = tuple(f"vein{order}" for order in range(1, min(max_order, 3) + 1)) if class_per_order else ("vein",)
    with new_dataset_folder(out) as folder:
        for name in ("images", "vein_masks", "leaf_masks"):
            (folder / name).mkdir()
        write = partial(_write_image, folder, seed, size_px, max_order, class_per_order)
        rows = write_rows(write, range(images), workers)
        write_manifest_files(Manifest(out.name, folder.resolve(), (), classes, rows), folder)
    return read_manifest(out)


def draw_varied_leaf(seed: int, index: int, size_px: int) -> VariedLeaf:
    """Draw image `index` of a seed, size_px x size_px."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    species, appearance = sample_species(rng), sample_appearance(rng)
    view = sample_view(rng)
    leaves = place_leaves(species, view, size_px, rng)
    layers = rasterize(leaves, species, size_px, rng)
    length_px = float(np.median([leaf.length_px for leaf in leaves]))
    px_per_mm = _sample_scale(length_px, rng)
    image, cut = render(layers, appearance, px_per_mm, rng)
    visible = visible_orders(image, layers)
    orders = np.where(np.isin(layers.orders, visible) & ~cut, np.minimum(layers.orders, 3), 0).astype(np.uint8)
    leaf = (layers.blade >= 0.5) & ~cut
    return VariedLeaf(
        image, orders, np.where(leaf, 255, 0).astype(np.uint8), px_per_mm, species.outline, species.venation, view,
        appearance.imaging, appearance.background, layers.widths_px[0], visible,
    )  # fmt: skip


def _sample_scale(length_px: float, rng: np.random.Generator) -> float:
    """Sample how many pixels a millimeter has, so that a leaf of this length has a length that leaves have."""
    lowest = np.clip(length_px / MAX_LENGTH_MM, MIN_PX_PER_MM, MAX_PX_PER_MM)
    highest = np.clip(length_px / MIN_LENGTH_MM, lowest, MAX_PX_PER_MM)
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))


def _write_image(folder: Path, seed: int, size_px: int, max_order: int, class_per_order: bool, index: int) -> Row:
    leaf = draw_varied_leaf(seed, index, size_px)
    mask = leaf.vein_mask(max_order)
    if class_per_order:
        mask = np.where(mask > 0, leaf.vein_orders, 0).astype(np.uint8)
    image, vein_mask, leaf_mask = (
        f"images/{index:06d}.jpg",
        f"vein_masks/{index:06d}.png",
        f"leaf_masks/{index:06d}.png",
    )
    Image.fromarray(leaf.image).save(folder / image, quality=95)
    Image.fromarray(mask).save(folder / vein_mask)
    Image.fromarray(leaf.leaf_mask).save(folder / leaf_mask)
    return Row(
        image=image,
        mask=vein_mask,
        split={18: "val", 19: "test"}.get(index % 20, "train"),
        px_per_mm=leaf.px_per_mm,
        extra={"leaf_mask": leaf_mask, **leaf.columns()},
    )

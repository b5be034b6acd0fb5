"""Synthetic leaves with known veins, cultivars and traits: a data set for tests and demos.

The steps: `leaf_shape` samples a cultivar, a leaf outline and a pose; `major_veins` draws the midrib and the secondary
veins; `minor_veins` draws the tertiary and quaternary veins; `photo` renders the image; `generate` rasterizes the masks
and writes a whole data set.
Leaves of every kind (`varied`): `varied_shape` samples species and draws their blades, `varied_layers` places and
rasterizes them, `varied_photo`, `varied_damage` and `varied_backgrounds` render, `varied` writes the data set.
"""

from mnsa.data.synthetic.generate import DrawnLeaf, TrueTraits, draw_leaf, synthesize
from mnsa.data.synthetic.leaf_shape import Cultivar, make_cultivar
from mnsa.data.synthetic.varied import VariedLeaf, draw_varied_leaf, synthesize_varied

__all__ = [
    "Cultivar",
    "DrawnLeaf",
    "TrueTraits",
    "VariedLeaf",
    "draw_leaf",
    "draw_varied_leaf",
    "make_cultivar",
    "synthesize",
    "synthesize_varied",
]

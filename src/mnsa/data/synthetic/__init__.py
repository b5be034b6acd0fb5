"""Drawn leaves with known veins, cultivars and traits: a data set for trying things out and for testing them."""

from mnsa.data.synthetic.drawn_leaf import DrawnLeaf, TrueTraits, draw_leaf
from mnsa.data.synthetic.generate import synthesize
from mnsa.data.synthetic.leaf_shape import Cultivar, make_cultivar

__all__ = ["Cultivar", "DrawnLeaf", "TrueTraits", "draw_leaf", "make_cultivar", "synthesize"]

"""Drawn leaves with known veins, cultivars and traits: a data set for trying things out and for testing them."""

from mnsa.data.synthetic.cultivar import Cultivar, make_cultivar
from mnsa.data.synthetic.dataset import write_dataset
from mnsa.data.synthetic.leaf import DrawnLeaf, draw_leaf
from mnsa.data.synthetic.traits import Traits

__all__ = ["Cultivar", "DrawnLeaf", "Traits", "draw_leaf", "make_cultivar", "write_dataset"]

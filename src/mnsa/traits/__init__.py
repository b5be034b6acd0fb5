"""Measure traits of leaves, veins, areoles and lesions on masks. This package does not import torch."""

from mnsa.traits.measurer import Roles, TraitMeasurer, find_roles
from mnsa.traits.records import AreoleTraits, Distribution, LeafTraits, LesionTraits, MaskTraits, VeinTraits

__all__ = [
    "AreoleTraits",
    "Distribution",
    "LeafTraits",
    "LesionTraits",
    "MaskTraits",
    "Roles",
    "TraitMeasurer",
    "VeinTraits",
    "find_roles",
]

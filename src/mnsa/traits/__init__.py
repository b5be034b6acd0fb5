"""Traits of leaves, veins, areoles and lesions, measured on masks; knows nothing of networks and needs no torch."""

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

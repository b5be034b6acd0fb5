"""Traits of leaves, veins, areoles and lesions, measured on masks; knows nothing of networks and needs no torch."""

from mnsa.traits.records import AreoleTraits, LeafTraits, LesionTraits, Spread, Traits, VeinTraits
from mnsa.traits.roles import Roles, find_roles
from mnsa.traits.ruler import Ruler

__all__ = [
    "AreoleTraits",
    "LeafTraits",
    "LesionTraits",
    "Roles",
    "Ruler",
    "Spread",
    "Traits",
    "VeinTraits",
    "find_roles",
]

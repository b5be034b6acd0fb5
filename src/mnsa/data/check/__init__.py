"""Every fault of a data set: before training (`require_sound`), and in full (`check_dataset`).

One module a family: files, names, classes, duplicates (fingerprint and alike find the pictures that look the same).
"""

from mnsa.data.check.run import Findings, check_dataset
from mnsa.data.check.sound import find_faults, require_sound
from mnsa.data.faults import Fault

__all__ = ["Fault", "Findings", "check_dataset", "find_faults", "require_sound"]

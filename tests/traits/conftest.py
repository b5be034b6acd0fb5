"""Shapes whose traits are known in closed form, at any rotation and sub-pixel place."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

SIDE = 241
PLACE = (0.3, 0.45)  # of the shape's middle from the image's, so that nothing falls on the pixel grid


def _frame(degrees: Any, side: int = SIDE) -> tuple[Any, Any]:
    """Each pixel's coordinates along and across a shape that is turned by some degrees."""
    row, column = np.mgrid[:side, :side] - (side - 1) / 2.0
    row, column = row - PLACE[0], column - PLACE[1]
    turn = np.deg2rad(degrees)
    return column * np.cos(turn) + row * np.sin(turn), row * np.cos(turn) - column * np.sin(turn)


def line(length: Any, width: Any, degrees: int) -> Any:
    along, across = _frame(degrees)
    return (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)


def cross(length: Any, width: Any, degrees: int, angle: int) -> Any:
    """Two lines through one point."""
    return line(length, width, degrees) | line(length, width, degrees + angle)


def grid(lines: Any, gap: Any, width: Any, degrees: int) -> np.ndarray:
    """`lines` by `lines` lines, `gap` apart, that end half a gap beyond the outermost crossings."""
    along, across = _frame(degrees)
    mask = np.zeros(along.shape, dtype=bool)
    for place in (np.arange(lines) - (lines - 1) / 2) * gap:
        mask |= (np.abs(along - place) <= width / 2) & (np.abs(across) <= lines * gap / 2)
        mask |= (np.abs(across - place) <= width / 2) & (np.abs(along) <= lines * gap / 2)
    return mask


def ellipse(length: Any, width: Any, degrees: int) -> Any:
    along, across = _frame(degrees)
    return (along / (length / 2)) ** 2 + (across / (width / 2)) ** 2 <= 1


def disk(radius: int) -> Any:
    return ellipse(2 * radius, 2 * radius, 0)


def ring(radius: int, width: Any) -> Any:
    return disk(radius + width / 2) & ~disk(radius - width / 2)


@pytest.fixture(scope="session")
def draw() -> SimpleNamespace:
    """Shapes as bool masks of 241 px."""
    return SimpleNamespace(line=line, cross=cross, grid=grid, ellipse=ellipse, disk=disk, ring=ring)

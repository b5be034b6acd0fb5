"""Colors of drawn photos."""

import warnings

import numpy as np
import pytest
from skimage.color import lab2rgb

from mnsa.data.synthetic.photo import GAMMA, lch_to_linear_rgb


@pytest.mark.parametrize(("lightness", "chroma", "hue_deg"), [(60, 40, 120), (5, 60, 90), (90, 100, 95), (30, 20, 300)])
def test_a_color_is_that_of_skimage_without_its_warning(lightness: float, chroma: float, hue_deg: float) -> None:
    hue = np.deg2rad(hue_deg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = lab2rgb(np.array([[[lightness, chroma * np.cos(hue), chroma * np.sin(hue)]]]))[0, 0] ** GAMMA

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        color = lch_to_linear_rgb(lightness, chroma, hue_deg)

    assert color == pytest.approx(expected)

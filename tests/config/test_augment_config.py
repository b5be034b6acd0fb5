"""Augmentation has limits: probabilities are at most 1, angles at most 180 degrees, and a zoom leaves something."""

import pytest
from pydantic import ValidationError

from mnsa.config import AugmentConfig


@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        ({"horizontal_flip": 1}, {"horizontal_flip": 1.01}),
        ({"rotation_deg": 180}, {"rotation_deg": 181}),
        ({"zoom": 0.99}, {"zoom": 1}),
        ({"hue": 0.5}, {"hue": 0.6}),
        ({"color_jitter": 1}, {"color_jitter": 2}),
        ({"policy": "trivial"}, {"policy": "auto"}),
        ({"mixup": 0}, {"mixup": -1}),
        ({"cutmix": 2}, {"cutmix": float("nan")}),
    ],
)
def test_limits_are_inside_and_what_is_beyond_is_refused(
    largest: dict[str, object], too_large: dict[str, object]
) -> None:
    AugmentConfig.model_validate(largest)
    with pytest.raises(ValidationError):
        AugmentConfig.model_validate(too_large)


def test_by_default_images_are_flipped_left_to_right_and_nothing_else() -> None:
    changed = {name for name, value in AugmentConfig().model_dump().items() if value and value != "none"}
    assert changed == {"horizontal_flip"}

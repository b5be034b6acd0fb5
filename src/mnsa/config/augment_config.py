"""The schema of the section `augment`."""

from typing import Annotated, Literal

from pydantic import Field

from mnsa.config.section import NonNegative, Probability, Section


class AugmentConfig(Section):
    """Random changes to training images. Geometric changes apply to the mask as well."""

    horizontal_flip: Probability = Field(default=0.5, description="Probability of a flip left to right.")
    vertical_flip: Probability = Field(default=0.0, description="Probability of a flip upside down.")
    rot90: Probability = Field(
        default=0.0, description="Probability of a rotation by 90, 180 or 270 degrees. Needs a square `data.size`."
    )
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = Field(
        default=0.0, description="Largest rotation, in degrees. The angle is uniform between minus and plus this value."
    )
    zoom: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Largest change of scale. The factor is uniform between 1 - zoom and 1 + zoom."
    )
    color_jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="Largest relative change of brightness, contrast and saturation."
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description="Largest change of hue, as a part of the color circle; 0.5: any hue. For structures whose color "
        "says nothing.",
    )
    policy: Literal["none", "trivial", "rand"] = Field(
        default="none",
        description="Random operations after the others: `trivial` (TrivialAugmentWide) or `rand` (RandAugment), as "
        "torchvision has them. The mask of an image is sheared, moved and rotated with it.",
    )
    own: tuple[str, ...] = Field(
        default=(), description="Your own augmentations, by name, in this order, after the others."
    )
    mixup: NonNegative = Field(
        default=0.0,
        description="Alpha of MixUp: images of a batch, their labels and masks are blended in pairs, by a share from "
        "Beta(alpha, alpha). 0: off; 0.2 is usual. A pixel counts where both masks are known.",
    )
    cutmix: NonNegative = Field(
        default=0.0,
        description="Alpha of CutMix: a rectangle of each image and of its mask is that of another image of the batch; "
        "the labels count by area. 0: off; 1 is usual. Beside `mixup`, each batch gets one of the two.",
    )
    random_erasing: Probability = Field(
        default=0.0,
        description="Probability that a rectangle (2 to 33 % of the image) is erased. The mask does not change.",
    )

"""The schema of the section `loss`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mnsa.config.section import Count, NonNegative, Section


class LossConfig(Section):
    """The loss: a weighted sum of the terms that belong to the stage's tasks."""

    classification: NonNegative = Field(default=1.0, description="Weight of the cross-entropy of the labels.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="Label smoothing.")
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="`balanced`: weight classes by their inverse frequency in the training split (mean 1).",
    )
    segmentation: NonNegative = Field(default=1.0, description="Weight of the pixel-wise cross-entropy of the masks.")
    dice: NonNegative = Field(default=1.0, description="Weight of the soft Dice loss of the masks.")
    mask_guidance: NonNegative = Field(
        default=0.0, description="Weight of the squared error between attention map and mask. MGANet uses 0.1. 0: off."
    )
    deep_supervision: bool = Field(
        default=False,
        description="Decoder levels 2 to 5 get a mask loss too: 0.1 / 2^level of the cross-entropy's weight. The "
        "output keeps 0.95 of it.",
    )
    cldice: NonNegative = Field(
        default=0.0,
        description="Weight of the soft clDice loss, which punishes gaps and false lines. Only beside `segmentation` "
        "or `dice`: alone it collapses. 0: off. 0.5 is a good start.",
    )
    cldice_iterations: Count = Field(
        default=5,
        description="Erosions of the soft skeleton. At least half the width of the widest line, in pixels of the mask "
        "logits.",
    )
    skeleton_recall: NonNegative = Field(
        default=0.0,
        description="Weight of the skeleton recall loss: 1 - the mean probability within 2 px of the true centerlines, "
        "inside the true mask. Only beside `segmentation` or `dice`. 0: off.",
    )
    centerline: NonNegative = Field(
        default=0.0,
        description="Weight of the cross-entropy at most 1 px from true centerlines, and in gaps of at most 2 px "
        "between lines. Beside `segmentation = 1`, these pixels count 1 + `centerline` times. 0: off.",
    )
    own: dict[str, NonNegative] = Field(
        default={}, description="Weights of your own losses, by name: `own = { focal = 0.5 }`."
    )
    thin_classes: tuple[str, ...] = Field(
        default=(),
        description="Mask classes of `cldice`, `skeleton_recall` and `centerline`, by name. Empty: all but the "
        "background.",
    )

    @property
    def needs_centerlines(self) -> bool:
        """Whether a term needs the true centerlines."""
        return max(self.cldice, self.skeleton_recall, self.centerline) > 0

    @model_validator(mode="after")
    def _check_thin_terms_have_company(self) -> Self:
        if self.needs_centerlines and self.segmentation == self.dice == 0:
            raise ValueError(
                "loss.cldice, loss.skeleton_recall and loss.centerline look at lines only, and collapse without a loss "
                "of the whole mask; set loss.segmentation or loss.dice above 0"
            )
        return self

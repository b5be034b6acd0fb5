"""The schema of a config: one frozen model per section. Every field has a range and a description; unknown keys fail.

`docs/hooks/reference_pages.py` makes the site's page of the config from these descriptions.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mnsa.config.augment_config import AugmentConfig
from mnsa.config.loss_config import LossConfig
from mnsa.config.search_config import SearchConfig
from mnsa.config.section import (
    Attention,
    Channels,
    Count,
    FiveChannels,
    FiveRatios,
    NetworkPart,
    NonNegative,
    Pixels,
    Positive,
    Ratio,
    Section,
    Task,
)
from mnsa.own_parts import own_parts

PART_TASKS: Mapping[NetworkPart, Task] = MappingProxyType(
    {
        "attention": "classification",
        "class_head": "classification",
        "enhancer": "segmentation",
        "decoder": "segmentation",
    }
)

DECODERS = ("enhanced", "unet", "unet3plus")
# The named networks of `model.preset`. Keys given beside `preset` replace those of the preset.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "small": {},  # the defaults of ModelConfig
        "paper": {
            "backbone": "densenet161",
            "pretrained": "imagenet",
            "widths": (1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8),
            "skip_ratio": 0.25,
            "bridge_channels": "paper",
            "decoder_channels": "paper",
            "mask_resolution": "half",
        },
    }
)


class DataConfig(Section):
    """How an image becomes the input of the network."""

    size: tuple[Pixels, Pixels] = Field(
        default=(256, 256), description="Height and width of a training input, in pixels."
    )
    resize_mode: Literal["resize", "crop"] = Field(
        default="resize",
        description="`resize`: resize every image to `size`. `crop`: keep the scale. Training then takes random crops "
        "of `size` and pads small images with black; prediction sees the whole image.",
    )
    crops_per_epoch: Count = Field(
        default=1,
        description="Random crops in an epoch, at least one of each training image; more are the same number of every "
        'image. More than 1 needs `resize_mode = "crop"`: then few large images make many steps, and validation of '
        "whole images takes a smaller part of the time.",
    )

    @model_validator(mode="after")
    def _check_crops(self) -> Self:
        if self.crops_per_epoch > 1 and self.resize_mode != "crop":
            raise ValueError("data.crops_per_epoch above 1 needs data.resize_mode = 'crop'")
        return self


class ModelConfig(Section):
    """The network. The defaults are the `small` preset."""

    preset: Literal["small", "paper"] = Field(
        default="small", description="A named network. Keys given beside it replace those of the preset."
    )
    classes: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Number of classes. Without it: as many as the data set has. With it: other data sets fail.",
    )
    backbone: str = Field(
        default="tf_efficientnet_lite0",
        description="A timm model with feature maps at strides 2 to 32 or 4 to 32, a backbone name of the paper's "
        "code, such as `densenet161`, or the name of your own backbone.",
    )
    pretrained: str = Field(
        default="bundled",
        description="Weights at the start. Of the backbone: `imagenet` (downloaded), `bundled` (installed with mnsa; "
        "`tf_efficientnet_lite0` only), `none`, or the path of a weights file. `veins`: those of the network of "
        "`mnsa veins`, with its enhancer, decoder and mask head where they have the same shapes.",
    )
    attention: Attention = Field(
        default="mean_max",
        description="Spatial attention before the class head, from the mean of the channels, or mean and maximum.",
    )
    decoder: str = Field(
        default="enhanced",
        description="`enhanced`: U-Net with the adaptive feature enhancer. `unet` and `unet3plus` have no enhancer; "
        "`widths`, `skip_ratio` and `offset_channels` do not apply to them. Or the name of your own decoder.",
    )
    widths: FiveRatios | tuple[FiveRatios, FiveRatios, FiveRatios, FiveRatios, FiveRatios] = Field(
        default=(
            (0.0, 0.0, 0.125, 0.125, 0.125),  # sampling at levels 1 and 2 would cost as much as the whole encoder
            (0.125, 0.0, 0.125, 0.125, 0.125),
            (0.125, 0.125, 0.125, 0.125, 0.125),
            (0.125, 0.125, 0.125, 0.125, 0.125),
            (0.125, 0.125, 0.125, 0.125, 0.125),
        ),
        description="Channels of the enhancer's branches, relative to the channels of their level. The branches are "
        "deform3, deform5, atrous2, atrous3 and context. Five ratios for all levels, or five per level, level 1 first. "
        "0 removes the branch.",
    )
    skip_ratio: Ratio = Field(
        default=0.25,
        description="Channels of the skip connections from enhancer to decoder, relative to the channels of the "
        "enhancer at the level. At least one channel, even at 0.",
    )
    offset_channels: Channels = Field(
        default=64, description="Hidden channels of the layers that predict the offsets of deformable convolutions."
    )
    bridge_channels: Channels | Literal["paper"] = Field(
        default=128, description="Channels of the bridge below the decoder. `paper`: those of the deepest feature map."
    )
    decoder_channels: FiveChannels | Literal["paper"] = Field(
        default=(24, 32, 48, 64, 128),
        description="Channels of decoder levels 1 to 5. `paper`: those of the feature map one level above; at level 1 "
        "those of level 1.",
    )
    source_channels: Channels = Field(
        default=64, description="Channels that each of five levels gives to a decoder level. Only for `unet3plus`."
    )
    mask_resolution: Literal["half", "full"] = Field(
        default="full",
        description="`half`: mask logits at half the input's size, as in the paper. `full`: at its full size.",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="Dropout before the class head.")

    @field_validator("decoder")
    @classmethod
    def _check_decoder(cls, name: str) -> str:
        known = (*DECODERS, *own_parts("decoders"))
        if name not in known:
            raise ValueError(f"model.decoder is {name!r}; expected one of {', '.join(known)}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**PRESETS.get(values.get("preset", "small"), {}), **values}


class StageConfig(Section):
    """One stage of training: its tasks, the parts that it trains, and for how long."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = Field(description="Name: lower case, digits, `_`.")
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = Field(description="Tasks whose loss terms count.")
    trainable: Annotated[tuple[NetworkPart, ...], Field(min_length=1)] = Field(
        description="Parts that are trained; the others are frozen. `backbone_deep`: only the backbone's last blocks "
        "(DenseNet: from denseblock3 on), as in the paper's first stage."
    )
    frozen_bn: Literal["eval", "train"] = Field(
        default="eval",
        description="Mode of BatchNorm layers in frozen parts. `train`: their running statistics are updated, as in "
        "the paper's first stage.",
    )
    epochs: Count = Field(description="Number of epochs.")
    batch_size: Count = Field(description="Images per step, in each process.")
    batch_parts: Count | Literal["auto"] = Field(
        default="auto",
        description="Parts of a batch that go through the network one after the other, to need less memory. Their "
        "gradients are added, so a step still sees `batch_size` images; BatchNorm and Dice see one part. `auto`: one, "
        "and twice as many whenever memory runs out.",
    )
    optimizer: Literal["sgd", "adamw"] = Field(default="adamw", description="Optimizer. `sgd` has momentum 0.9.")
    lr: Positive = Field(description="Learning rate.")
    backbone_lr: Positive | None = Field(default=None, description="Learning rate of the backbone. Without it: `lr`.")
    weight_decay: NonNegative = Field(default=5e-4, description="Weight decay.")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="Learning rate schedule.")
    warmup_epochs: NonNegative = Field(default=0.0, description="Epochs of linear warm-up, before the schedule.")
    patience: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Stop after this many epochs without a better validation score. 0: never."
    )

    @model_validator(mode="after")
    def _check_parts_have_task(self) -> Self:
        for part in self.trainable:
            task = PART_TASKS.get(part)
            if task is not None and task not in self.tasks:
                raise ValueError(
                    f"stage {self.name!r} trains {part!r}, which only {task} uses; add that task or remove the part"
                )
        return self


SelectBy = Literal["auto", "accuracy", "iou", "cldice", "betti"]


class TrainConfig(Section):
    """Settings of training that all stages share."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=1, description="Seed of weights, batches and augmentation."
    )
    init_from: str = Field(
        default="",
        description="Run folder or weights file to start from. Parts with the same shapes are loaded, in place of "
        "`model.pretrained`. Empty: none.",
    )
    head_init: Literal["random", "linear_probe"] = Field(
        default="random",
        description="Class head at the start of the first stage that trains it. `linear_probe`: a logistic regression "
        "on the pooled features of the training images; validation chooses its penalty. The network before the first "
        "epoch is then kept if no epoch has a better validation score.",
    )
    distill: str = Field(
        default="",
        description="Run folder of a teacher, for masks with errors: usually an earlier run of the same config on the "
        "same data. Its mask probabilities are mixed into the targets of cross-entropy and Dice. Empty: none.",
    )
    distill_weight: Ratio = Field(
        default=0.5,
        description="Share a of the teacher in the mask targets: (1 - a) * mask + a * probability. Pixels without a "
        "known class, labels, and losses of lines and of deeper levels do not use the teacher.",
    )
    sampler: Literal["shuffled", "balanced"] = Field(
        default="shuffled",
        description="Images of an epoch. `shuffled`: each once. `balanced`: as many, but equally many of every class: "
        "those of rare classes come several times, with other augmentation, and some of frequent classes not at all.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="`bfloat16` and `float16` train in mixed precision."
    )
    recompute: bool = Field(
        default=True,
        description="Compute large feature maps again in the backward pass in place of storing them. `false` needs "
        "more memory; on a GPU it may be faster.",
    )
    gradient_clip: NonNegative = Field(default=0.0, description="Largest global norm of the gradient. 0: no limit.")
    select_by: SelectBy = Field(
        default="auto",
        description="What `val_score` is, which selects the best epoch of a stage and stops it early. `auto`: the "
        "mean of accuracy and IoU, as far as the stage has the tasks. `accuracy`, `iou` or `cldice` (centerline Dice) "
        "alone. `betti`: 1 / (1 + Betti-0 error + Betti-1 error). The last two are means over thin mask classes, such "
        "as veins, of masks at the network's size. A stage without the task that this needs is selected by its own "
        "task.",
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Decay of the exponential moving average of the weights. 0: off."
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Processes that load images. They change no result."
    )
    loader_timeout_s: NonNegative = Field(
        default=600.0,
        description="Longest time that these processes may take for a batch, in seconds. Then training ends, and names "
        "the images that they were loading. 0: no limit.",
    )
    checkpoint_minutes: NonNegative = Field(
        default=10.0,
        description="Longest time between checkpoints, in minutes; one follows each epoch, too. 0: only after epochs.",
    )
    on_nan: Literal["stop", "skip"] = Field(
        default="stop",
        description="A step whose loss or gradient is not a finite number: end the training, or skip and count the "
        "step (`skipped_steps` in metrics.csv). Weights that are not finite are never saved.",
    )
    cache: str = Field(
        default="",
        description="Folder for decoded images, which are looked up by the SHA-256 of their file. Empty: none.",
    )
    cache_gb: Positive = Field(default=20.0, description="Size limit of that folder, in GB (10^9 bytes).")
    postprocessing: bool = Field(
        default=True,
        description="Choose threshold, gap closing and smallest areas of masks on validation images at the end, for "
        "`postprocessing.json`. Off: each pixel gets its most probable class.",
    )
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        default=(), description="Loggers beside `metrics.csv`. Each needs the extra of its name."
    )


class Config(Section):
    """A whole run: the sections, and the stages of training in order."""

    data: DataConfig = Field(default=DataConfig(), description="How an image becomes the input of the network.")
    augment: AugmentConfig = Field(default=AugmentConfig(), description="Random changes to training images.")
    model: ModelConfig = Field(default=ModelConfig(), description="The network.")
    loss: LossConfig = Field(default=LossConfig(), description="The loss.")
    train: TrainConfig = Field(default=TrainConfig(), description="Settings of training that all stages share.")
    search: SearchConfig = Field(default=SearchConfig(), description="The search space. Only `mnsa search` reads it.")
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)] = Field(
        description="The stages of training, in order. Each starts from the best epoch of the one before."
    )

    @model_validator(mode="after")
    def _check_mixed_masks_suit_the_loss(self) -> Self:
        loss = self.loss
        if self.augment.mixup and (loss.needs_centerlines or loss.deep_supervision or loss.mask_guidance):
            raise ValueError(
                "augment.mixup mixes masks, but loss.cldice, loss.skeleton_recall, loss.centerline, "
                "loss.deep_supervision and loss.mask_guidance need masks of one class per pixel; set augment.mixup to "
                "0, or use augment.cutmix"
            )
        return self

    @property
    def tasks(self) -> frozenset[Task]:
        """The tasks of all stages."""
        return frozenset(task for stage in self.stages for task in stage.tasks)

    @model_validator(mode="after")
    def _check_stage_names(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stage names must differ, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _check_enhancer_exists(self) -> Self:
        for stage in self.stages:
            if "enhancer" in stage.trainable and self.model.decoder != "enhanced":
                raise ValueError(
                    f"stage {stage.name!r} trains 'enhancer', which model.decoder = {self.model.decoder!r} doesn't "
                    f"have; remove it from stages.{stage.name}.trainable"
                )
        return self

    @model_validator(mode="after")
    def _check_guidance_has_attention(self) -> Self:
        if self.loss.mask_guidance > 0 and self.model.attention == "none":
            raise ValueError(
                "loss.mask_guidance trains the attention, but model.attention is 'none'; "
                "choose 'mean' or 'mean_max', or set loss.mask_guidance to 0"
            )
        return self

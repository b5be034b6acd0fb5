"""The sections of a config, [search] included: frozen models, every field has a range, unknown keys are refused."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SearchRatio = Annotated[float, Field(ge=0.0, le=1.0)]

SearchChannels = Annotated[int, Field(ge=1)]

DecoderChannels = (
    tuple[SearchChannels, SearchChannels, SearchChannels, SearchChannels, SearchChannels] | Literal["paper"]
)

Objective = Literal["iou", "macs", "parameters", "latency"]


class SearchConfig(BaseModel, frozen=True, extra="forbid"):
    """What `mnsa search` varies. An empty list leaves what [model] says."""

    # Ratios that a branch may have; 0: it may be absent.
    ratios: Annotated[tuple[SearchRatio, ...], Field(min_length=1)] = (1 / 16, 1 / 8, 1 / 4)
    # no: five ratios for all levels (with three ratios 243 points). kinds: at each level one for the deformable
    # branches, one for the atrous, one for the context (15 choices). branches: each branch of each level (25 choices).
    per_level: Literal["no", "kinds", "branches"] = "no"
    skip_ratios: tuple[SearchRatio, ...] = ()
    attentions: tuple[Literal["none", "mean", "mean_max"], ...] = ()
    decoder_widths: tuple[DecoderChannels, ...] = ()  # of decoder_channels
    lr: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None  # lowest and highest
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    seed: Annotated[int, Field(ge=0)] = 1  # of the sampler; what a trial draws depends on it and on the trial alone
    pruner: Literal["halving", "median", "none"] = "halving"
    grace_period: Annotated[int, Field(ge=1)] = 1  # no trial is pruned before the end of this epoch
    startup_trials: Annotated[int, Field(ge=1)] = 10  # trials before tpe and the median rule trust what they have seen
    # Validation IoU alone, or against one cost: multiply-adds, parameters, or the measured latency of one image.
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=2)] = ("iou",)
    heartbeat_s: Annotated[float, Field(gt=0)] = 20.0  # a worker that is silent for six of these is dead

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.objectives[0] != "iou" or self.objectives.count("iou") > 1:
            raise ValueError(f"search.objectives is {list(self.objectives)}; expected 'iou', alone or before a cost")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                "search.pruner compares trials by their IoU alone and would stop the cheap ones; "
                "with two objectives set search.pruner = 'none'"
            )
        if max(self.ratios) == 0:
            raise ValueError("search.ratios holds nothing but 0, which leaves no branch; add a ratio above 0")
        for name in ("ratios", "skip_ratios", "attentions", "decoder_widths"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"search.{name} names a value twice")
        if self.lr is not None and self.lr[0] >= self.lr[1]:
            raise ValueError(f"search.lr is {list(self.lr)}; expected the lowest and the highest learning rate")
        if self.lr is not None and self.sampler == "grid":
            raise ValueError("search.sampler = 'grid' needs lists of values, which search.lr is not; take it out")
        return self


Ratio = Annotated[float, Field(ge=0.0, le=1.0)]

Probability = Annotated[float, Field(ge=0.0, le=1.0)]

Channels = Annotated[int, Field(ge=1)]

Pixels = Annotated[int, Field(ge=32, le=20_000)]

FiveRatios = tuple[Ratio, Ratio, Ratio, Ratio, Ratio]

Task = Literal["classification", "segmentation"]

NetworkPart = Literal["backbone", "backbone_deep", "attention", "class_head", "enhancer", "decoder"]

_PART_TASKS: Mapping[NetworkPart, Task] = MappingProxyType(
    {
        "attention": "classification",
        "class_head": "classification",
        "enhancer": "segmentation",
        "decoder": "segmentation",
    }
)


# The two networks the program knows by name. Keys given beside `preset` win over it.
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


class Section(BaseModel):
    """A frozen section that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """How an image becomes the network's input."""

    size: tuple[Pixels, Pixels] = (256, 256)  # height, width of a training input, in pixels
    # resize: resize to `size`. crop: keep the scale; zero-pad and crop `size` to train, see the whole image otherwise.
    resize_mode: Literal["resize", "crop"] = "resize"


class AugmentConfig(Section):
    """Random changes to training images; masks follow the geometry."""

    horizontal_flip: Probability = 0.5
    vertical_flip: Probability = 0.0
    rot90: Probability = 0.0  # rotation by 90, 180 or 270 degrees; square inputs only
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0  # uniform in -rotation_deg..rotation_deg
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0  # scale uniform in 1-zoom..1+zoom
    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0  # brightness, contrast and saturation by up to this share
    random_erasing: Probability = 0.0  # random erasing, area 0.02-0.33; the mask keeps its truth


class ModelConfig(Section):
    """The network. The defaults are the `small` preset."""

    preset: Literal["small", "paper"] = "small"
    classes: Annotated[int, Field(ge=2)] | None = None  # None: as many as the data have; a number refuses other data
    backbone: str = "tf_efficientnet_lite0"  # an alias of the paper's code, or any timm model with the right strides
    pretrained: str = "bundled"  # imagenet | bundled | none | path of a weights file
    attention: Literal["none", "mean", "mean_max"] = "mean_max"
    # unet and unet3plus have no enhancer: widths, skip_ratio and offset_channels are for `enhanced` alone.
    decoder: Literal["enhanced", "unet", "unet3plus"] = "enhanced"
    # Ratios of deform3, deform5, atrous2, atrous3, context: five for all levels, or five per level. 0: no such branch.
    # Sampling at levels 1 and 2 would cost as much as the whole encoder, so the default leaves most of it out there.
    widths: FiveRatios | tuple[FiveRatios, FiveRatios, FiveRatios, FiveRatios, FiveRatios] = (
        (0.0, 0.0, 0.125, 0.125, 0.125),
        (0.125, 0.0, 0.125, 0.125, 0.125),
        (0.125, 0.125, 0.125, 0.125, 0.125),
        (0.125, 0.125, 0.125, 0.125, 0.125),
        (0.125, 0.125, 0.125, 0.125, 0.125),
    )
    skip_ratio: Ratio = 0.25
    offset_channels: Channels = 64  # hidden channels of the offset predictors
    bridge_channels: Channels | Literal["paper"] = 128  # paper: C_5
    # Channels of decoder levels 1..5. paper: C_{l-1}, and C_1 at level 1.
    decoder_channels: tuple[Channels, Channels, Channels, Channels, Channels] | Literal["paper"] = (24, 32, 48, 64, 128)
    source_channels: Channels = 64  # unet3plus alone: what each of the five levels gives to a level of the decoder
    mask_resolution: Literal["half", "full"] = "full"  # half: the paper's; full: one sub-pixel step more
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # before the classifier

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {**PRESETS.get(given.get("preset", "small"), {}), **given}


class LossConfig(Section):
    """What is minimised: a weighted sum of the terms whose task the stage has."""

    classification: Annotated[float, Field(ge=0)] = 1.0  # weight of the cross-entropy on labels
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"  # balanced: inverse class frequency in train, mean 1
    segmentation: Annotated[float, Field(ge=0)] = 1.0  # weight of the pixel-wise cross-entropy on masks
    dice: Annotated[float, Field(ge=0)] = 1.0  # weight of the soft Dice loss on masks
    mask_guidance: Annotated[float, Field(ge=0)] = 0.0  # weight of MSE(attention, mask); MGANet uses 0.1
    # True: decoder levels 2..5 learn the mask too, at 0.1 / 2^level of the cross-entropy's weight; the output at 0.95.
    deep_supervision: bool = False


class StageConfig(Section):
    """One stretch of training: which tasks count, what learns, for how long."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    # backbone_deep: what the paper's stage 1 leaves unfrozen (DenseNet: denseblock3 to norm5).
    trainable: Annotated[tuple[NetworkPart, ...], Field(min_length=1)]
    # Mode of the BatchNorms in frozen parts. train: they update their running statistics, as in the paper's stage 1.
    frozen_bn: Literal["eval", "train"] = "eval"
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)]
    backbone_lr: Annotated[float, Field(gt=0)] | None = None  # None: the same as lr
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    patience: Annotated[int, Field(ge=0)] = 0  # epochs without a better validation score before stopping; 0: never stop

    @model_validator(mode="after")
    def _parts_serve_a_task(self) -> Self:
        for part in self.trainable:
            task = _PART_TASKS.get(part)
            if task is not None and task not in self.tasks:
                raise ValueError(
                    f"stage {self.name!r} trains {part!r}, which only {task} uses; add that task or drop it"
                )
        return self


class TrainConfig(Section):
    """How training runs, whatever it learns."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1  # numpy takes no more
    init_from: str = ""  # run folder or weights file whose fitting parts are taken over, in place of model.pretrained
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # the last two: mixed precision
    gradient_clip: Annotated[float, Field(ge=0)] = 0.0  # global norm; 0: off
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # exponential moving average of the weights; 0: off
    workers: Annotated[int, Field(ge=0)] = 0  # loader processes
    cache: str = ""  # folder for decoded images, found again by their content; empty: none
    cache_gb: Annotated[float, Field(gt=0)] = 20.0  # what that folder may hold, in 10^9 bytes
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()  # beside the run folder's own metrics.csv


class Config(Section):
    """A whole run."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()  # what `mnsa search` varies; nothing else reads it
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]

    @property
    def tasks(self) -> frozenset[Task]:
        """What some stage learns."""
        return frozenset(task for stage in self.stages for task in stage.tasks)

    @model_validator(mode="after")
    def _stage_names_differ(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stage names must differ, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _stages_learn_what_the_model_has(self) -> Self:
        for stage in self.stages:
            if "enhancer" in stage.trainable and self.model.decoder != "enhanced":
                raise ValueError(
                    f"stage {stage.name!r} trains 'enhancer', which model.decoder = {self.model.decoder!r} doesn't "
                    f"have; take it out of stages.{stage.name}.trainable"
                )
        return self

    @model_validator(mode="after")
    def _guidance_has_an_attention(self) -> Self:
        if self.loss.mask_guidance > 0 and self.model.attention == "none":
            raise ValueError(
                "loss.mask_guidance guides the attention, but model.attention is 'none'; "
                "choose 'mean' or 'mean_max', or set loss.mask_guidance to 0"
            )
        return self

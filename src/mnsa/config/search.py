"""The [search] section: which values the network may take, how they are drawn, and what is wanted of it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Channels = Annotated[int, Field(ge=1)]
DecoderChannels = tuple[Channels, Channels, Channels, Channels, Channels] | Literal["paper"]
Objective = Literal["iou", "macs", "parameters", "latency"]


class SearchConfig(BaseModel, frozen=True, extra="forbid"):
    """What `mnsa search` varies. An empty list leaves what [model] says."""

    # Ratios that a branch may have; 0: it may be absent.
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (1 / 16, 1 / 8, 1 / 4)
    # no: five ratios for all levels (with three ratios 243 points). kinds: at each level one for the deformable
    # branches, one for the atrous, one for the context (15 choices). branches: each branch of each level (25 choices).
    per_level: Literal["no", "kinds", "branches"] = "no"
    skip_ratios: tuple[Ratio, ...] = ()
    attentions: tuple[Literal["none", "mean", "mean_max"], ...] = ()
    decoder_widths: tuple[DecoderChannels, ...] = ()  # of decoder_channels
    lr: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None  # lowest and highest
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    seed: Annotated[int, Field(ge=0)] = 1  # of the sampler; what a trial draws depends on it and on the trial alone
    pruner: Literal["halving", "median", "none"] = "halving"
    spared_epochs: Annotated[int, Field(ge=1)] = 1  # no trial is pruned before the end of this epoch
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

"""The [search] section of a config."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mnsa.config.section import Attention, Count, FiveChannels, Objective, Positive, Ratio, Section


class SearchConfig(Section):
    """The search space and the sampler of `mnsa search`. An empty list keeps the value of [model]."""

    method: Literal["trials", "supernet"] = Field(
        default="trials",
        description="`trials`: train one network after the other. `supernet`: train all widths at once, as slices of "
        "the widest network, then score the slices. `sampler`, `pruner` and their keys are for trials only.",
    )
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = Field(
        default=(1 / 16, 1 / 8, 1 / 4),
        description="Ratios that a branch of the enhancer may have. 0: it may be absent.",
    )
    per_level: Literal["no", "kinds", "branches"] = Field(
        default="no",
        description="`no`: five ratios for all levels (243 networks with three ratios). `kinds`: one ratio per level "
        "for the deformable, the atrous and the context branches (15 choices). `branches`: one ratio per level and "
        "branch (25 choices).",
    )
    skip_ratios: tuple[Ratio, ...] = Field(default=(), description="Values of `model.skip_ratio`.")
    attentions: tuple[Attention, ...] = Field(default=(), description="Values of `model.attention`.")
    decoder_widths: tuple[FiveChannels | Literal["paper"], ...] = Field(
        default=(), description="Values of `model.decoder_channels`."
    )
    lr: tuple[Positive, Positive] | None = Field(
        default=None, description="Lowest and highest learning rate. Without it the stage's own."
    )
    sampler: Literal["tpe", "random", "grid"] = Field(default="tpe", description="How points of the space are chosen.")
    seed: Annotated[int, Field(ge=0)] = Field(
        default=1, description="Seed of the sampler. A point depends on the seed and the trial, not on the worker."
    )
    pruner: Literal["halving", "median", "none"] = Field(
        default="halving", description="Rule that stops weak trials early."
    )
    grace_period: Count = Field(default=1, description="Epochs of a trial before it can be pruned.")
    startup_trials: Count = Field(default=10, description="Trials before `tpe` and `median` use earlier results.")
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=2)] = Field(
        default=("iou",),
        description="Validation IoU, alone or with one cost: multiply-adds (`macs`), `parameters`, or the measured "
        "`latency` of one image.",
    )
    heartbeat_s: Positive = Field(
        default=20.0,
        description="Seconds between heartbeats of a worker. A worker is dead after six missed heartbeats.",
    )

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
        if self.objectives[0] != "iou" or self.objectives.count("iou") > 1:
            raise ValueError(f"search.objectives is {list(self.objectives)}; expected 'iou', alone or before a cost")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                "search.pruner compares trials by their IoU alone and would stop the cheap ones; "
                "with two objectives set search.pruner = 'none'"
            )
        return self

    @model_validator(mode="after")
    def _check_space(self) -> Self:
        if max(self.ratios) == 0:
            raise ValueError("search.ratios has only 0, which leaves no branch; add a ratio above 0")
        for name in ("ratios", "skip_ratios", "attentions", "decoder_widths"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"search.{name} has the same value twice")
        for name in ("lr", "attentions"):
            if self.method == "supernet" and getattr(self, name):
                raise ValueError(
                    f"search.{name} can't be searched with search.method = 'supernet', whose networks share their "
                    f"weights; remove search.{name}, or set search.method to 'trials'"
                )
        if self.lr is not None and self.lr[0] >= self.lr[1]:
            raise ValueError(f"search.lr is {list(self.lr)}; expected the lowest and the highest learning rate")
        if self.lr is not None and self.sampler == "grid":
            raise ValueError(
                "search.sampler = 'grid' needs lists of values, and search.lr is a range; remove search.lr"
            )
        return self

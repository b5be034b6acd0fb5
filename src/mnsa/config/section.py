"""The base class of all config sections, and the types of their fields."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Channels = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=32, le=20_000)]

FiveRatios = tuple[Ratio, Ratio, Ratio, Ratio, Ratio]
FiveChannels = tuple[Channels, Channels, Channels, Channels, Channels]

Task = Literal["classification", "segmentation"]
NetworkPart = Literal["backbone", "backbone_deep", "attention", "class_head", "enhancer", "decoder"]
Attention = Literal["none", "mean", "mean_max"]
Objective = Literal["iou", "macs", "parameters", "latency"]


class Section(BaseModel):
    """Base of all sections: frozen, without NaN and infinity, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

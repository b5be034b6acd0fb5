"""What to do: sections (the fields), parsing (a tree becomes a Config), loading (files, their bases, overrides)."""

from mnsa.config.loading import load_config
from mnsa.config.parsing import dump_config, parse_config
from mnsa.config.search import SearchConfig
from mnsa.config.sections import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    StageConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "SearchConfig",
    "StageConfig",
    "TrainConfig",
    "dump_config",
    "load_config",
    "parse_config",
]

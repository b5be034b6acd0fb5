"""Configs: the schema (sections and fields), and loading (files, their bases, overrides, validation)."""

from mnsa.config.augment_config import AugmentConfig
from mnsa.config.load import dump_config, load_config, named_configs, override_config, parse_config, select_tasks
from mnsa.config.loss_config import LossConfig
from mnsa.config.schema import (
    DECODERS,
    Config,
    DataConfig,
    ModelConfig,
    SelectBy,
    StageConfig,
    TrainConfig,
)
from mnsa.config.search_config import SearchConfig

__all__ = [
    "DECODERS",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "SearchConfig",
    "SelectBy",
    "StageConfig",
    "TrainConfig",
    "dump_config",
    "load_config",
    "named_configs",
    "override_config",
    "parse_config",
    "select_tasks",
]

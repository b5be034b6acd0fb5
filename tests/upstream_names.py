"""State dicts as the upstream code writes them, made from this project's networks: the inverse of model/upstream.py."""

import re

from torch import Tensor

from mnsa.model.network import Network

# Names of this project's tensors -> the upstream ones, level numbers kept.
RENAMINGS = [
    (r"backbone\.net\.features_", r"features.features."),
    (r"backbone\.net\.", r"features."),
    (r"attention\.score", r"attention"),
    (r"class_head\.classifier", r"classifier"),
    (r"enhancer\.levels\.(\d)\.branches\.deform(\d)\.offsets", r"deconv_layers_\2.\1.offset_generator"),
    (r"enhancer\.levels\.(\d)\.branches\.deform(\d)\.conv", r"deconv_layers_\2.\1.deform_conv"),
    (r"enhancer\.levels\.(\d)\.branches\.atrous(\d)", r"atrous_conv_layers_\2.\1"),
    (r"enhancer\.levels\.(\d)\.branches\.context\.conv", r"max_min_expan_layers.\1"),
    (r"enhancer\.skips\.(\d)", r"tranformers.\1"),
    (r"decoder\.bridge\.0", r"center"),
    (r"decoder\.bridge\.1", r"center2"),
    (r"decoder\.levels\.(\d)\.mix", r"decoder_layers.\1.layers.1"),
    (r"decoder\.levels\.(\d)\.refine", r"decoder_layers.\1.layers.2"),
    (r"mask_head\.conv", r"decoder_layers.1.layers.2.3"),
]
LEVEL_OF_CHILD = {"conv1": 1, "bn1": 1, "layer1": 2, "layer2": 3, "layer3": 4, "layer4": 5, "conv0": 1, "norm0": 1}


def upstream_name(ours: str) -> str:
    numbered = re.sub(r"\b(levels|skips)\.(\d)", lambda m: f"{m[1]}.{int(m[2]) + 1}", ours)
    for pattern, replacement in RENAMINGS:
        if re.match(pattern, numbered):
            return re.sub(pattern, replacement, numbered)
    raise AssertionError(f"no upstream name for {ours}")


def upstream_state(network: Network) -> dict[str, Tensor]:
    """The upstream MNSA code's state dict of a network: the backbone stands twice, and so does the classifier."""
    state = {upstream_name(key): value for key, value in network.state_dict().items()}
    for key, value in list(state.items()):
        if match := re.match(r"features\.(?:features\.)?(([a-z0-9]+)\..*)", key):
            level = LEVEL_OF_CHILD.get(match[2]) or int(match[2][-1]) + 1  # denseblock1 and transition1 make level 2
            state[f"Encoders.{level}.{match[1]}"] = value
        if key.startswith("classifier."):
            state[f"features.{key}"] = value
    return state


def mganet_state(network: Network) -> dict[str, Tensor]:
    """MGANet's: a classifier alone, the backbone's children directly under `features`."""
    state = {upstream_name(key): value for key, value in network.state_dict().items()}
    return {key.replace("features.features.", "features."): value for key, value in state.items()}

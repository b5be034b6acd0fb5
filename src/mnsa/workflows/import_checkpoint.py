"""`mnsa import-checkpoint`: convert a checkpoint of the upstream code into a run folder.

`mnsa.load` then gives the same outputs as the upstream network.
"""

from pathlib import Path

from mnsa.config import Config, DataConfig, StageConfig
from mnsa.errors import ModelError, RunError
from mnsa.io import sha256_file
from mnsa.model.heads import AttentionKind
from mnsa.model.network import build_network
from mnsa.model.upstream import UpstreamCheckpoint, convert_upstream, is_upstream
from mnsa.model.weights import read_state_dict
from mnsa.model_folder import save_network
from mnsa.run_folder import ModelSpec, RunFolder, create_run_folder

UPSTREAM_DATA = DataConfig(size=(448, 448), resize_mode="crop")  # the training input of the upstream code

# The training stages of the upstream code. Source: method, section 2.
UPSTREAM_STAGES = {
    "classification": StageConfig(
        name="classification", tasks=("classification",), trainable=("backbone_deep", "attention", "class_head"),
        frozen_bn="train", epochs=150, batch_size=32, optimizer="sgd", lr=0.05, weight_decay=5e-4,
    ),
    "segmentation": StageConfig(
        name="segmentation", tasks=("segmentation",), trainable=("enhancer", "decoder"),
        epochs=150, batch_size=8, optimizer="sgd", lr=0.05, weight_decay=5e-4,
    ),
}  # fmt: skip


def import_checkpoint(file: Path, out: Path, *, attention: AttentionKind | None = None) -> RunFolder:
    """Convert a state dict of the upstream MNSA or MGANet code into a new run folder.

    attention: see `convert_upstream`. The classes are named 1..K, like the labels of those data sets, and the mask
    class `vein`. Raises: ModelError with the tensors that don't fit; RunError when `out` exists.
    """
    if out.exists():
        raise RunError(f"{out} exists and was not changed. Choose another --out.")
    state = read_state_dict(file)
    if not is_upstream(state):
        raise ModelError(
            f"{file} has no tensors named features.*, so it is no checkpoint of the upstream MNSA or MGANet code."
        )
    try:
        checkpoint = convert_upstream(state, attention)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    spec = _model_spec(checkpoint)
    network = build_network(checkpoint.model, checkpoint.classes, checkpoint.mask_classes)
    network.load_state_dict(checkpoint.state, strict=True)
    tasks = ("classification", "segmentation") if checkpoint.mask_classes else ("classification",)
    config = Config(data=UPSTREAM_DATA, model=checkpoint.model, stages=tuple(UPSTREAM_STAGES[task] for task in tasks))
    run = create_run_folder(out, config, {"checkpoint": str(file.resolve()), "checkpoint_sha256": sha256_file(file)})
    save_network(run.model_folder, network, spec)
    return run


def _model_spec(checkpoint: UpstreamCheckpoint) -> ModelSpec:
    classes = tuple(str(label) for label in range(1, checkpoint.classes + 1))
    names = (
        ("vein",)
        if checkpoint.mask_classes == 1
        else tuple(f"class{index}" for index in range(checkpoint.mask_classes))
    )
    return ModelSpec(checkpoint.model, UPSTREAM_DATA, classes, names)

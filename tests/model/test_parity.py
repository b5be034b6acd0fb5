"""The `paper` network equals the upstream one: same weights, same outputs (needs about 8 GB of memory)."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from mnsa.model.network import Network, build_network
from mnsa.model.upstream import convert_upstream
from parity_weights import PARITY, TOLERANCE, images, relative_errors, upstream_checkpoint


def network_from(checkpoint: dict[str, Tensor]) -> Network:
    found = convert_upstream(checkpoint)
    with torch.device("meta"):
        network = build_network(found.model, found.classes, found.mask_classes)
    network.load_state_dict(found.state, strict=True, assign=True)
    return network.eval()


def answers(network: Network, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    pyramid = network.features(images)
    yield "class_logits", network.classify(pyramid)[0]
    if network.decoder is None:
        return
    mask_logits, sides = network.segment_with_side_logits(pyramid, images)
    yield "mask_logits", mask_logits
    for level, side in enumerate(sides, start=2):
        yield f"decoder_{level}", side


@pytest.mark.slow
@pytest.mark.parametrize("classification_only", [True, False], ids=["classification", "both tasks"])
def test_the_paper_network_has_the_outputs_of_the_upstream_code(classification_only: bool) -> None:
    if not PARITY.is_dir():
        pytest.skip(f"the upstream code's numbers are not at {PARITY}")
    with torch.inference_mode():
        network = network_from(upstream_checkpoint(classification_only=classification_only))
        found = dict(answers(network, images()))
    assert set(found) == ({"class_logits"} if classification_only else set(np.load(PARITY / "expected.npz")))
    for name, error in relative_errors(found).items():
        assert error < TOLERANCE, f"{name} is off by {error:.1e} standard deviations"

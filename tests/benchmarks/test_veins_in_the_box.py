"""From a run to the model folder of the package: float16, the same masks, and a card; and how photos are scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mnsa
import mnsa.weights
from mnsa.config import DataConfig
from mnsa.data.manifest import read_manifest
from mnsa.errors import ModelError
from mnsa.inference.postprocessing import Postprocessing
from mnsa.inference.postprocessing_file import FittedPostprocessing, save_postprocessing
from mnsa.model.network import build_network
from mnsa.model_folder import save_network
from mnsa.run_folder import ModelSpec, create_run_folder, dataset_provenance, weights_digest
from veins import LeafScores, markdown, score
from veins_in_the_box import pack, to_float16


@pytest.fixture
def run(make_config: Callable[..., Any], dataset: Path, tmp_path: Path) -> Path:
    """A run of an untrained network of veins, as `mnsa train` leaves it."""
    torch.manual_seed(2)
    config = make_config()
    folder = create_run_folder(tmp_path / "run", config, dataset_provenance(read_manifest(dataset), dataset))
    spec = ModelSpec(config.model, DataConfig(size=(64, 64), resize_mode="crop"), (), ("vein",))
    save_network(folder.model_folder, build_network(config.model, 0, 1), spec)
    fitted = FittedPostprocessing(
        Postprocessing(threshold=0.45), "rule", "val", 3, {}, "leaves", "digest", weights_digest(folder.path)
    )
    save_postprocessing(folder.path, fitted)
    return folder.path


def test_the_packed_network_is_found_by_its_name_with_its_threshold(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(run, tmp_path / "weights" / "veins")
    monkeypatch.setattr(mnsa.weights, "FOLDER", tmp_path / "weights")
    predictor = mnsa.load("veins")
    assert predictor.mask_maker.postprocessing.threshold == 0.45
    card = (tmp_path / "weights" / "veins" / "README.md").read_text(encoding="utf-8")
    for part in ("license: apache-2.0", "Drawn leaves alone", "## Limits", "Masks of both precisions: IoU "):
        assert part in card


def test_weights_are_in_float16_and_variances_are_not(run: Path, tmp_path: Path) -> None:
    given = load_file(run / "model" / "model.safetensors")
    packed = load_file(pack(run, tmp_path / "veins") / "model.safetensors")
    assert {packed[name].dtype for name in packed if name.endswith("conv.weight")} == {torch.float16}
    for name, value in given.items():
        exact = name.endswith("running_var") or not value.is_floating_point()
        torch.testing.assert_close(packed[name], value if exact else value.half(), rtol=0, atol=0)


def test_a_weight_that_float16_can_not_hold_is_an_error() -> None:
    assert to_float16({"bn.running_var": torch.tensor([1e6])})["bn.running_var"] == 1e6
    with pytest.raises(ModelError, match=r"conv\.weight has values that float16 can't hold"):
        to_float16({"conv.weight": torch.tensor([1e6])})


def test_a_network_of_classes_is_refused(finished: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no network of veins alone"):
        pack(finished.path, tmp_path / "veins")
    assert not (tmp_path / "veins").exists()


def test_the_card_has_the_scores_of_photos(run: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for kind, pixels in (("images", np.zeros((80, 80, 3), np.uint8)), ("masks", np.eye(80, dtype=np.uint8) * 255)):
        (photos / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(photos / kind / "leaf07.png")
    assert "| leaf07 |" in (pack(run, tmp_path / "veins", photos) / "README.md").read_text(encoding="utf-8")


def test_a_line_beside_the_truth_is_found_within_three_pixels() -> None:
    truth, near, far = (np.zeros((60, 60), bool) for _ in range(3))
    truth[10:50, 30:32] = near[10:50, 33:35] = far[10:50, 40:42] = True
    assert score(truth, truth) == (1, 1, 1, 1)
    assert score(near, truth) == (1, 1, 0, 0)
    assert score(far, truth) == (0, 0, 0, 0)
    assert score(np.zeros_like(truth), truth) == (0, 0, 0, 0)


def test_the_best_factor_of_each_leaf_is_the_last_row() -> None:
    def leaf(name: str, iou: float) -> LeafScores:
        return LeafScores(name, (0.5, 0.5, iou, 0.5), 1.0, 0.7, "", 1.0)

    results = {"1": [leaf("a", 0.2), leaf("b", 0.3)], "0.5": [leaf("a", 0.4), leaf("b", 0.1)]}
    table = markdown(results).splitlines()
    assert table[2].startswith("| 1 | 0.500 | 0.500 | 0.250 |")
    assert table[4].startswith("| best IoU | 0.500 | 0.500 | 0.350 |")

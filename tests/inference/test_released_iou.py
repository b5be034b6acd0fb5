"""The released code's IoU of a run: batches of 8, half resolution, thickened masks; computed here with sets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import read_manifest
from mnsa.errors import DataError
from mnsa.inference.released_iou import released_iou_of
from mnsa.inference.run_evaluation import evaluate_run


def test_it_is_the_mean_over_batches_of_eight_at_half_resolution(finished, predictor, dataset):
    manifest = read_manifest(dataset).split("train")
    samples = [read_sample(manifest, row) for row in manifest.rows]
    inputs = torch.stack([predictor.transform(sample.image)[0] for sample in samples])
    logits = torch.nn.functional.avg_pool2d(predictor(inputs).mask_logits, 2)  # bilinear at half the size
    said = (logits[:, 0] > 0).numpy()
    true = np.stack([block_reduce(sample.mask.numpy(), (2, 2), np.max) for sample in samples]) > 0
    batches = [slice(0, 8), slice(8, 12)]
    expected = [(said[b] & true[b]).sum() / (said[b] | true[b]).sum() for b in batches]
    assert released_iou_of(finished.path, manifest) == pytest.approx(np.mean(expected), abs=1e-6)


def test_evaluate_adds_it_only_when_asked(own_run, mnsa):
    assert "iou_released" not in evaluate_run(own_run.path)["segmentation"]
    asked = mnsa("evaluate", own_run.path, "--iou-released")
    assert (asked.code, "as the released code computes it" in asked.out) == (0, True)
    assert "iou_released" in own_run.evaluation_file.read_text()


def test_without_masks_it_is_refused(finished, dataset):
    manifest = read_manifest(dataset)
    bare = replace(manifest, rows=tuple(replace(row, mask="") for row in manifest.rows))
    with pytest.raises(DataError, match="needs masks"):
        released_iou_of(finished.path, bare)

"""`mnsa export`: an artefact appears when it agrees with the eager network, and not otherwise."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mnsa.data.decode import read_image
from mnsa.engines.artifact import open_artifact
from mnsa.errors import DataError, ModelError, RunError
from mnsa.inference.predictor import Predictor, load
from mnsa.structures import NetworkOutputs
from mnsa.workflows import export as export_module
from mnsa.workflows.export import compare_exported, export_run

GUIDE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="session")
def exported(finished, tmp_path_factory):
    """A run with an ONNX export. For reading only."""
    run = shutil.copytree(finished.path, tmp_path_factory.mktemp("runs") / "exported")
    export_run(run, "onnx")
    return run


def engine_off_by(predictor, amount):
    """An engine that adds to each of the network's outputs."""

    def answer(images):
        return NetworkOutputs(*(None if output is None else output + amount for output in predictor.network(images)))

    return Predictor(predictor.network, *card_of(predictor), engine=answer)


def card_of(predictor):
    from mnsa.config import DataConfig, ModelConfig
    from mnsa.run_folder import ModelSpec

    return [ModelSpec(ModelConfig(), DataConfig(size=(64, 64)), predictor.classes, predictor.mask_classes)]


def test_a_difference_above_the_tolerance_is_refused(predictor):
    found = compare_exported(predictor, engine_off_by(predictor, 5e-5), "float32", None)
    assert found["differences"]["random"]["mask_logits"] == pytest.approx(5e-5, rel=0.1)
    with pytest.raises(ModelError, match=r"class_logits by 2\.0e-04 on random images, where 1e-04 is allowed"):
        compare_exported(predictor, engine_off_by(predictor, 2e-4), "float32", None)
    with pytest.raises(ModelError, match="class_logits by inf"):
        compare_exported(predictor, engine_off_by(predictor, torch.nan), "float32", None)


def test_masks_that_disagree_are_refused_in_lower_precisions(predictor, dataset):
    from mnsa.data.manifest import read_manifest

    validation = read_manifest(dataset).split("val")
    same = compare_exported(predictor, engine_off_by(predictor, 1e-4), "bfloat16", validation)
    assert (same["labels"], same["real_images"]) == ([3, 3], 3)
    assert same["mask_iou"] == pytest.approx(1, abs=0.01)
    assert same["scores"]["eager"]["classification"] == same["scores"]["exported"]["classification"]
    with pytest.raises(ModelError, match=r"3 of 3 labels are the same and the masks' IoU is 0\.\d+, where 0\.90"):
        compare_exported(predictor, engine_off_by(predictor, 100.0), "int8", validation)


def test_a_refused_export_leaves_nothing_behind(own_run, monkeypatch):
    before = sorted(own_run.path.rglob("*"))
    monkeypatch.setattr(export_module, "write_artifact", lambda folder, *_: (folder / "model.onnx").write_text("?"))
    with pytest.raises(RunError, match="can't be used"):
        export_run(own_run.path, "onnx")
    assert sorted(own_run.path.rglob("*")) == before


def test_int8_without_training_images_is_refused(own_run, tmp_path):
    text = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps({**text, "dataset": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="int8 is calibrated on training images"):
        export_run(own_run.path, "onnx", precision="int8")


def test_an_engine_that_was_not_exported_names_the_command(finished):
    with pytest.raises(RunError, match=r"no openvino network in int8. Make it: mnsa export .* --precision int8"):
        load(finished.path, engine="openvino", precision="int8")


def test_trees_and_an_engine_exclude_each_other(finished):
    with pytest.raises(ModelError, match="Boosted trees are no part of an exported network"):
        load(finished.path, head="trees", engine="onnx")


@pytest.mark.slow
def test_an_exported_run_predicts_as_the_eager_one_does(exported, predictor, dataset):
    image = read_image(sorted((dataset / "images").iterdir())[0])
    mine, theirs = predictor.predict_image(image), load(exported, engine="onnx").predict_image(image)
    np.testing.assert_allclose(theirs.class_probs, mine.class_probs, atol=1e-4)
    np.testing.assert_allclose(theirs.attention, mine.attention, atol=1e-4)
    assert (theirs.mask == mine.mask).mean() > 0.999


@pytest.mark.slow
def test_an_export_of_other_weights_is_refused(exported, tmp_path):
    run = shutil.copytree(exported, tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    from mnsa.engines.artifact import open_export

    with pytest.raises(RunError, match="made from other weights"):
        open_export(run, "onnx", "float32")


@pytest.mark.slow
def test_a_file_carries_its_card(exported, predictor):
    folder = exported / "exports" / "onnx-float32"
    card = open_artifact(folder, "onnx").spec
    beside = json.loads((folder / "export.json").read_text())
    assert (card.classes, card.mask_classes, card.size) == (predictor.classes, ("vein",), (64, 64))
    assert card.provenance["seed"] == 1
    assert beside["comparison"]["real_images"] == 3
    assert max(beside["comparison"]["differences"]["real"].values()) < 1e-4


@pytest.mark.slow
def test_the_guides_snippet_runs_a_file_without_mnsa(exported, predictor, dataset, tmp_path):
    leaf = sorted((dataset / "images").iterdir())[0]
    snippet = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(snippet.strip().splitlines()) <= 14
    shutil.copy(exported / "exports" / "onnx-float32" / "model.onnx", tmp_path)
    shutil.copy(leaf, tmp_path / "leaf.jpg")
    check = "import sys; assert not {'torch', 'mnsa'} & sys.modules.keys()\nmask.save('mask.png')"
    said = subprocess.run(
        [sys.executable, "-c", snippet + check], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    answer = predictor.predict(leaf)
    assert said.stdout.split()[0] == predictor.classes[answer.class_probs.argmax()]
    from PIL import Image

    drawn = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    assert (drawn == (answer.mask > 0)).mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_int8_reports_what_it_costs(own_run, engine):
    found = export_run(own_run.path, engine, precision="int8", agreement=0.0).card.comparison
    assert found["labels"][1] == 3
    assert set(found["scores"]) == {"eager", "exported"}
    assert found["differences"]["random"]["mask_logits"] > 1e-4  # something has been rounded
    load(own_run.path, engine=engine, precision="int8")

"""`mnsa export`: an exported network is saved only if it agrees with the eager network."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from mnsa.data.decode import read_image
from mnsa.engines.artifact import open_artifact
from mnsa.errors import DataError, ModelError, RunError
from mnsa.inference.predictor import Predictor, load
from mnsa.run_folder import ModelSpec, RunFolder
from mnsa.structures import NetworkOutputs
from mnsa.workflows import export as export_module
from mnsa.workflows.export import compare_exported, export_run
from narrowing import some

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"


@pytest.fixture(scope="session")
def exported(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an ONNX export. For reading only."""
    run = shutil.copytree(finished.path, tmp_path_factory.mktemp("runs") / "exported")
    export_run(run, "onnx")
    return run


def engine_off_by(predictor: Predictor, amount: float) -> Predictor:
    """Build a predictor with an engine that adds `amount` to each output of the network."""

    def engine(images: Any) -> NetworkOutputs:
        return NetworkOutputs(*(None if output is None else output + amount for output in predictor.network(images)))

    return Predictor(predictor.network, spec_of(predictor), engine=engine)


def spec_of(predictor: Predictor) -> ModelSpec:
    from mnsa.config import DataConfig, ModelConfig
    from mnsa.run_folder import ModelSpec

    return ModelSpec(ModelConfig(), DataConfig(size=(64, 64)), predictor.classes, predictor.mask_classes)


def test_a_difference_above_the_tolerance_is_an_error(predictor: Predictor) -> None:
    found = compare_exported(predictor, engine_off_by(predictor, 5e-5), "float32", None)
    assert found["differences"]["random"]["mask_logits"] == pytest.approx(5e-5, rel=0.1)
    with pytest.raises(ModelError, match=r"class_logits by 2\.0e-04 on random images, where 1e-04 is allowed"):
        compare_exported(predictor, engine_off_by(predictor, 2e-4), "float32", None)
    with pytest.raises(ModelError, match="class_logits by inf"):
        compare_exported(predictor, engine_off_by(predictor, torch.nan), "float32", None)


@pytest.mark.slow
def test_too_little_agreement_in_a_lower_precision_is_an_error(predictor: Predictor, dataset: Path) -> None:
    from mnsa.data.manifest import read_manifest

    validation = read_manifest(dataset).split("val")
    same = compare_exported(predictor, engine_off_by(predictor, 1e-4), "bfloat16", validation)
    assert (same["labels"], same["real_images"]) == ([3, 3], 3)
    assert same["mask_iou"] == pytest.approx(1, abs=0.01)
    accuracy = {
        which: next(one for one in scores if one["name"] == "accuracy") for which, scores in same["scores"].items()
    }
    assert accuracy["eager"] == accuracy["exported"]
    with pytest.raises(
        ModelError, match=r"3 of 3 labels are equal and the IoU of the masks is 0\.\d+; the minimum is 0\.90"
    ):
        compare_exported(predictor, engine_off_by(predictor, 100.0), "int8", validation)


def test_a_failed_export_leaves_no_file(own_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(own_run.path.rglob("*"))
    monkeypatch.setattr(export_module, "write_artifact", lambda folder, *_: (folder / "model.onnx").write_text("?"))
    with pytest.raises(RunError, match="can't be used"):
        export_run(own_run.path, "onnx")
    assert sorted(own_run.path.rglob("*")) == before


def test_int8_without_training_images_is_an_error(own_run: RunFolder, tmp_path: Path) -> None:
    text = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps({**text, "dataset": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="int8 is calibrated on training images"):
        export_run(own_run.path, "onnx", precision="int8")


def test_the_error_for_a_missing_export_has_the_command(finished: RunFolder) -> None:
    with pytest.raises(RunError, match=r"no openvino network in int8. Export it: mnsa export .* --precision int8"):
        load(finished.path, engine="openvino", precision="int8")


def test_trees_with_an_engine_are_an_error(finished: RunFolder) -> None:
    with pytest.raises(ModelError, match="Boosted trees are no part of an exported network"):
        load(finished.path, head="trees", engine="onnx")


@pytest.mark.slow
def test_an_exported_run_has_the_predictions_of_the_eager_one(
    exported: Path, predictor: Predictor, dataset: Path
) -> None:
    image = read_image(sorted((dataset / "images").iterdir())[0])
    expected, exported_prediction = predictor.predict_image(image), load(exported, engine="onnx").predict_image(image)
    np.testing.assert_allclose(some(exported_prediction.class_probs), some(expected.class_probs), atol=1e-4)
    np.testing.assert_allclose(some(exported_prediction.attention), some(expected.attention), atol=1e-4)
    assert (some(exported_prediction.mask) == some(expected.mask)).mean() > 0.999


@pytest.mark.slow
def test_an_export_of_other_weights_is_an_error(exported: Path, tmp_path: Path) -> None:
    run = shutil.copytree(exported, tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    from mnsa.engines.artifact import open_export

    with pytest.raises(RunError, match="exported from other weights"):
        open_export(run, "onnx", "float32")


@pytest.mark.slow
def test_a_file_contains_its_spec(exported: Path, predictor: Predictor) -> None:
    folder = exported / "exports" / "onnx-float32"
    spec = open_artifact(folder, "onnx").spec
    beside = json.loads((folder / "export.json").read_text())
    assert (spec.classes, spec.mask_classes, spec.size) == (predictor.classes, ("vein",), (64, 64))
    assert spec.provenance["seed"] == 1
    assert beside["comparison"]["real_images"] == 3
    assert max(beside["comparison"]["differences"]["real"].values()) < 1e-4


@pytest.mark.slow
def test_the_snippet_of_the_guide_runs_a_file_without_mnsa(
    exported: Path, predictor: Predictor, dataset: Path, tmp_path: Path
) -> None:
    leaf = sorted((dataset / "images").iterdir())[0]
    snippet = some(re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL))[1]
    assert len(snippet.strip().splitlines()) <= 14
    shutil.copy(exported / "exports" / "onnx-float32" / "model.onnx", tmp_path)
    shutil.copy(leaf, tmp_path / "leaf.jpg")
    check = "import sys; assert not {'torch', 'mnsa'} & sys.modules.keys()\nmask.save('mask.png')"
    printed = subprocess.run(
        [sys.executable, "-c", snippet + check], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    prediction = predictor.predict(leaf)
    assert printed.stdout.split()[0] == predictor.classes[some(prediction.class_probs).argmax()]
    from PIL import Image

    drawn = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    assert (drawn == (some(prediction.mask) > 0)).mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_int8_reports_its_agreement_and_scores(
    own_run: RunFolder, engine: Literal["torch", "onnx", "openvino"]
) -> None:
    found = export_run(own_run.path, engine, precision="int8", agreement=0.0).spec.comparison
    assert found["labels"][1] == 3
    assert set(found["scores"]) == {"eager", "exported"}
    assert found["differences"]["random"]["mask_logits"] > 1e-4  # the network is quantized
    load(own_run.path, engine=engine, precision="int8")

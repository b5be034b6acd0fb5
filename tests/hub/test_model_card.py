"""The model card has the facts of the run folder and its data set."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnsa.data.manifest import read_manifest
from mnsa.errors import RunError
from mnsa.hub.repository import save_model
from mnsa.metrics.evaluation_files import save_evaluation
from mnsa.metrics.scores import Evaluation, SampleSize, Score
from mnsa.model_folder import escape_markdown
from mnsa.run_folder import RunFolder

EVALUATION = Evaluation(
    dataset="leaves",
    images=3,
    calibrated=False,
    sizes={"classification": SampleSize(3, "groups", 2), "segmentation": SampleSize(3, "images", 3)},
    scores=(
        Score("accuracy", 0.6667, (0.25, 1.0), "fraction", "classification", "accuracy", headline=True),
        Score("top5_accuracy", 1.0, None, "fraction", "classification", "top-5 accuracy"),
        Score("iou", 0.41, None, "fraction", "segmentation", "IoU", "vein", headline=True),
        Score("dice", None, None, "fraction", "segmentation", "Dice", "vein", headline=True),
    ),
)


@pytest.fixture
def card_of(tmp_path: Path) -> Callable[..., str]:
    def card(run: Any, **options: Any) -> Any:
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        return (save_model(run.path, tmp_path / "saved", **options) / "README.md").read_text()

    return card


def header(text: Any) -> Any:
    return yaml.safe_load(text.split("---")[1])


def test_header_has_the_fields_of_the_hub(finished: RunFolder, card_of: Callable[..., str]) -> None:
    found = header(card_of(finished, license="cc-by-4.0"))
    assert (found["library_name"], found["license"]) == ("mnsa", "cc-by-4.0")
    assert found["pipeline_tag"] == "image-classification"
    assert {"leaf", "image-segmentation"} <= set(found["tags"])
    assert header(card_of(finished))["license"] == "unknown"
    assert "These weights have no named license" in card_of(finished)


def test_card_counts_images_per_class_and_split_and_has_no_path(
    finished: RunFolder, dataset: Path, card_of: Callable[..., str]
) -> None:
    text = card_of(finished)
    rows = read_manifest(dataset).rows
    for name in {row.label for row in rows}:
        counts = [sum((row.label, row.split) == (name, split) for row in rows) for split in ("train", "val", "test")]
        assert f"| {name} | {' | '.join(map(str, counts))} |" in text
    assert "| all | 12 | 3 | 3 |" in text
    assert str(dataset) not in text


def test_card_has_no_counts_if_the_data_set_has_changed(own_run: RunFolder, card_of: Callable[..., str]) -> None:
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps({**provenance, "dataset_digest": "0" * 64}))
    text = card_of(own_run)
    assert "Images per class are unknown" in text
    assert "| all |" not in text


def test_headline_scores_have_split_and_interval(own_run: RunFolder, card_of: Callable[..., str]) -> None:
    assert "Not evaluated yet" in card_of(own_run)
    for key in ("test", "test/trees"):
        save_evaluation(own_run, key, EVALUATION)
    text = card_of(own_run)
    interval = "0.250 to 1.000 (95 % interval over 2 groups (plants) of 3 images)"
    assert f"| leaves | test | 3 | accuracy | 0.667 | {interval} |" in text
    assert "| leaves | test | 3 | IoU of vein | 0.410 |  |" in text
    assert "| leaves | test | 3 | Dice of vein | none |  |" in text
    assert "top-5" not in text
    assert "trees" not in text


@pytest.mark.parametrize("text", ["[]", "{", '{"test": {"classification": 3}}'])
def test_damaged_evaluation_is_refused(own_run: RunFolder, card_of: Callable[..., str], text: str) -> None:
    own_run.evaluation_file.write_text(text)
    with pytest.raises(RunError, match=r"evaluation\.json is damaged"):
        card_of(own_run)


def test_card_of_an_imported_network_names_its_checkpoint(own_run: RunFolder, card_of: Callable[..., str]) -> None:
    own_run.provenance_file.write_text(json.dumps({"checkpoint": "/home/me/net.pth", "checkpoint_sha256": "abc"}))
    text = card_of(own_run)
    assert "imported from a checkpoint, sha256 abc" in text
    assert "/home/me" not in text


def test_usage_has_at_most_five_lines(finished: RunFolder, card_of: Callable[..., str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card_of(finished), re.DOTALL)
    assert "mnsa.load" in code
    assert len([line for line in code.splitlines() if line]) <= 5


def test_markup_in_untrusted_names_is_escaped() -> None:
    assert escape_markdown("a|b\n# c <img> [x](y) *z*") == "a\\|b \\# c &lt;img&gt; \\[x\\](y) \\*z\\*"

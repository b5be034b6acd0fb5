"""The page of a run: every section, from its folder alone, and the folder's own numbers."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnsa.inference.postprocessing import ClassPostprocessing, Postprocessing
from mnsa.inference.postprocessing_file import POSTPROCESSING_FILE, FittedPostprocessing, save_postprocessing
from mnsa.metrics.evaluation_files import read_evaluations, read_image_rows, save_evaluation
from mnsa.metrics.scores import Evaluation, SampleSize
from mnsa.report.run_page import best_epochs, plot_losses, plot_scores, render_run_page, write_run_report
from mnsa.report.run_record import read_run_record
from mnsa.report.trait_agreement import compute_agreement, read_trait_pairs
from mnsa.run_folder import RunFolder, weights_digest
from mnsa.workflows.evaluate import evaluate_run
from mnsa.workflows.fit_postprocessing import describe
from narrowing import some

pytestmark = pytest.mark.slow


SCORE_COLUMNS = ("split", "score", "value", "95 % interval", "interval over", "images")
DIGITS = {"images": ".0f", "count": ".2f", "relative": "+.3f"}
SECTIONS = ["Summary", "Learning curves", "Split test", "Split train", "Calibration", "Masks", "Config", "Provenance"]


@pytest.fixture(scope="module")
def page(reported: RunFolder, read_page: Callable[..., Any]) -> Any:
    return read_page(render_run_page(read_run_record(reported)))


@pytest.fixture
def page_of(read_page: Callable[..., Any]) -> Callable[..., Any]:
    return lambda run: read_page(render_run_page(read_run_record(run)))


def test_it_holds_every_section_and_links_to_each(page: Any) -> None:
    assert list(page.sections)[1:] == SECTIONS
    assert all(page.sections.values())
    anchors = [link for link in page.links if link.startswith("#")][: len(SECTIONS)]
    assert [anchor.replace("#split-", "#split ") for anchor in anchors] == [
        f"#{title.lower().replace('learning curves', 'learning-curves')}" for title in SECTIONS
    ]
    for words in ("Confusion matrix", "Most confused pairs", "Classes", "Mask classes"):
        assert words in page.sections["Split test"]
    for words in ("Worst masks", "Best masks", "Worst classified", "Best classified", "Traits"):
        assert words in page.sections["Split train"]


def test_masks_show_what_was_chosen_for_them_and_what_it_brought(
    own_reported: RunFolder, page_of: Callable[..., Any]
) -> None:
    chosen = Postprocessing(threshold=0.375, classes={"vein": ClassPostprocessing(min_area_px=12)})
    scores = {"before": {"vein": {"dice": 0.5, "areole_f1": 0.25}}, "after": {"vein": {"dice": 0.625}}}
    weights = weights_digest(own_reported.path)
    fitted = FittedPostprocessing(chosen, "by hand", "val", 7, scores, "leaves", "", weights, describe(chosen))
    save_postprocessing(own_reported.path, fitted)
    page = page_of(own_reported)
    for words in ("7 images of split val", "threshold 0.375", "vein: pieces below 12 px removed", "by hand"):
        assert words in page.sections["Masks"]
    rows = page.table("mask class", "score", "threshold 0.5", "as chosen")
    assert rows == [["vein", "dice", "0.500", "0.625"], ["vein", "areole f1", "0.250", ""]]


def test_masks_without_a_choice_name_the_command_that_chooses(
    own_reported: RunFolder, one_task: Callable[..., RunFolder], page_of: Callable[..., Any]
) -> None:
    (own_reported.path / POSTPROCESSING_FILE).unlink(missing_ok=True)
    assert f"mnsa calibrate {own_reported.path}" in page_of(own_reported).sections["Masks"]
    assert "predicts no masks" in page_of(one_task("classes")).sections["Masks"]


def test_it_needs_nothing_from_elsewhere_and_runs_nothing(page: Any, reported: RunFolder) -> None:
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    text = render_run_page(read_run_record(reported))
    assert not re.search(r"""url\((?!#)|@import|\son\w+=|https?://(?!www\.w3\.org)""", text)


def test_no_two_elements_have_one_id_and_every_reference_is_met(page: Any) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_its_pictures_are_whole_and_say_what_they_show(page: Any) -> None:
    pictures = [link for link in page.links if link.startswith("data:image/jpeg")]
    assert len(pictures) > 20
    for link in pictures:
        with Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) as image:
            image.load()
    assert all("cultivar" in alt for alt in page.alts)


def test_the_numbers_are_those_of_evaluation_json(page: Any, evaluation: dict[str, Evaluation]) -> None:
    expected = []
    for split, entry in evaluation.items():
        for score in entry.scores:
            form = DIGITS.get(score.unit, ".3f")
            value = "none" if score.value is None else format(score.value, form)
            interval = " to ".join(format(bound, form) for bound in score.interval or ())
            images = str(entry.images)
            interval += ", Wilson" * (score.method == "Wilson")
            expected.append([split, score.title, value, interval, f"{images} images" if interval else "", images])
    assert sorted(page.table(*SCORE_COLUMNS)) == sorted(expected)


def test_config_and_provenance_are_the_folders(page: Any, reported: RunFolder) -> None:
    for line in (
        'backbone = "test_efficientnet"',
        "size = [64, 64]",
        "widths = [0.125, 0.0, 0.125, 0.0, 0.125]",
        'tasks = ["classification", "segmentation"]',
    ):
        assert line in page.sections["Config"]
    facts = dict(page.table("what", "value"))
    provenance = read_run_record(reported).provenance
    assert facts["dataset digest"] == provenance["dataset_digest"]
    assert facts["version of torch"] == provenance["versions"]["torch"]


def test_widths_of_each_level_are_a_line_each(own_run: RunFolder, page_of: Callable[..., Any]) -> None:
    text = own_run.config_file.read_text()
    rows = "".join("    [\n" + "        0.125,\n" * 5 + "    ],\n" for _ in range(5))
    own_run.config_file.write_text(re.sub(r"\nwidths = \[[^\]]*\]", f"\nwidths = [\n{rows}]", text))
    assert page_of(own_run).sections["Config"].splitlines().count("    [0.125, 0.125, 0.125, 0.125, 0.125],") == 5


def test_it_is_made_of_the_folder_alone_and_the_same_each_time(
    own_reported: RunFolder, reported: RunFolder, tmp_path: Path
) -> None:
    moved = RunFolder(Path(shutil.move(own_reported.path, tmp_path / "elsewhere" / "first")))
    text = render_run_page(read_run_record(moved))
    assert text.replace(str(moved.path), "") == render_run_page(read_run_record(reported)).replace(
        str(reported.path), ""
    )


def test_writing_it_twice_leaves_one(own_reported: RunFolder) -> None:
    for _ in range(2):
        write_run_report(own_reported)
    assert own_reported.report_file.read_text().startswith("<!DOCTYPE html>")
    assert not list(own_reported.path.glob("report.html.*"))


def test_names_from_outside_are_shown_not_run(own_reported: RunFolder) -> None:
    file = own_reported.evaluation_file
    file.write_text(file.read_text().replace("cultivar_01", "<script>a</script> & $b$"))
    text = render_run_page(read_run_record(own_reported))
    assert "<script>" not in text
    assert "&lt;script&gt;a&lt;/script&gt; &amp; $b$" in text


def test_a_run_that_was_not_scored_says_which_commands_do_it(finished: RunFolder, page_of: Callable[..., Any]) -> None:
    page = page_of(finished)
    assert f"mnsa evaluate {finished.path}" in page.sections["Summary"]
    assert f"mnsa calibrate {finished.path}" in page.sections["Calibration"]
    assert "svg" in page.tags  # its learning curves are there


def test_a_run_that_was_interrupted_says_how_it_goes_on(own_run: RunFolder, page_of: Callable[..., Any]) -> None:
    shutil.rmtree(own_run.model_folder)
    own_run.metrics_file.unlink()
    page = page_of(own_run)
    for section in ("Summary", "Learning curves"):
        assert f"mnsa train --resume {own_run.path}" in page.sections[section]


def test_an_imported_network_has_no_epochs_to_show(own_run: RunFolder, page_of: Callable[..., Any]) -> None:
    own_run.metrics_file.unlink()
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps(provenance | {"checkpoint": "best.pth"}))
    assert "imported from best.pth" in page_of(own_run).sections["Learning curves"]


def test_missing_pieces_of_a_scored_run_name_their_command(
    own_reported: RunFolder, page_of: Callable[..., Any]
) -> None:
    shutil.rmtree(own_reported.predictions_folder / "train")
    page = page_of(own_reported)
    assert f"mnsa evaluate {own_reported.path} --split train" in page.sections["Split train"]
    assert f"mnsa evaluate {own_reported.path} --traits" in page.sections["Split test"]


def test_scores_from_before_the_calibration_are_called_so(own_reported: RunFolder, page_of: Callable[..., Any]) -> None:
    calibration = own_reported.path / "calibration.json"
    kept = calibration.read_text()
    calibration.unlink()
    evaluate_run(own_reported.path)
    calibration.write_text(kept)
    text = page_of(own_reported).sections["Calibration"]
    assert "Split test was evaluated before the calibration." in text
    assert "Split test, not calibrated" in text
    assert "Split train, calibrated" in text


def test_a_calibration_of_other_weights_is_not_shown(own_reported: RunFolder, page_of: Callable[..., Any]) -> None:
    calibration = own_reported.path / "calibration.json"
    calibration.write_text(re.sub(r'"weights_sha256": "\w+"', '"weights_sha256": "0"', calibration.read_text()))
    text = page_of(own_reported).sections["Calibration"]
    assert "was fitted for other weights" in text
    assert f"mnsa calibrate {own_reported.path}" in text
    assert "Temperature" not in text


@pytest.mark.parametrize(
    ("task", "there", "absent"),
    [
        ("classes", ("Confusion matrix", "Worst classified"), ("Mask classes", "Worst masks", "Traits")),
        ("masks", ("Mask classes", "Worst masks", "Traits"), ("Confusion matrix", "Worst classified")),
    ],
)
def test_a_run_of_one_task_has_a_page_of_it(
    one_task: Callable[..., RunFolder], page_of: Callable[..., Any], task: Any, there: Any, absent: Any
) -> None:
    run = one_task(task)
    traits = {"vein": ()} if task == "masks" else None
    evaluate_run(run.path, traits=traits)
    page = page_of(run)
    for words in there:
        assert words in page.sections["Split test"]
    for words in absent:
        assert words not in page.sections["Split test"]
    assert ("so it has no confidence to calibrate" in page.sections["Calibration"]) == (task == "masks")


EPOCHS = [
    {"stage": "first", "epoch": "1", "loss": "2.5", "val_accuracy": "0.5", "val_score": "0.5"},
    {"stage": "first", "epoch": "2", "loss": "1.5", "val_accuracy": "0.7", "val_score": "0.7"},
    {"stage": "first", "epoch": "3", "loss": "1.2", "val_accuracy": "0.7", "val_score": "0.7"},
    {"stage": "second", "epoch": "1", "loss": "0.9", "val_iou": "0.3", "val_score": "0.3", "val_accuracy": ""},
    {"stage": "second", "epoch": "2", "loss": "0.8", "val_iou": "0.4", "val_score": "0.4", "val_accuracy": ""},
]


def lines(axes: Any) -> Any:
    return {line.get_label(): line for line in axes.lines}


def test_curves_go_on_over_stages_and_an_epoch_without_a_score_has_no_dot() -> None:
    drawn = lines(plot_scores(EPOCHS).axes[0])
    assert list(drawn["accuracy"].get_xdata()) == [1, 2, 3]
    assert list(drawn["IoU"].get_xdata()) == [4, 5]
    assert list(drawn["IoU"].get_ydata()) == [0.3, 0.4]
    assert list(lines(plot_losses(EPOCHS).axes[0])["loss"].get_ydata()) == [2.5, 1.5, 1.2, 0.9, 0.8]


def test_a_cldice_that_selects_is_drawn() -> None:
    epochs = [{"stage": "only", "epoch": "1", "val_iou": "0.3", "val_cldice": "0.6", "val_score": "0.6"}]
    assert lines(plot_scores(epochs).axes[0]).keys() >= {"IoU", "clDice", "score"}


def test_each_stage_keeps_its_first_best_epoch() -> None:
    assert best_epochs(EPOCHS) == [2, 5]


def test_stages_have_their_names_where_there_are_several() -> None:
    assert [text.get_text() for text in plot_losses(EPOCHS).axes[0].texts] == ["first", "second"]
    assert not plot_losses(EPOCHS[:3]).axes[0].texts


HEAD_OF_MASKS = (
    "mask class", "IoU", "95 % interval", "Dice", "IoU per image", "Dice per image", "empty images"
)  # fmt: skip


def test_the_classes_are_those_of_the_confusion_matrix(page: Any, evaluation: dict[str, Evaluation]) -> None:
    found = {row[0]: row for table in page.tables for row in table[1:] if table[0][0] == "class"}
    train = evaluation["train"]
    for k, name in enumerate(train.classes):
        true, predicted = train.confusion[k], [row[k] for row in train.confusion]
        assert found[name][1:4] == [str(sum(true)), str(sum(predicted)), f"{true[k] / sum(true):.3f}"]


def test_the_mask_classes_are_those_of_evaluation_json(page: Any, evaluation: dict[str, Evaluation]) -> None:
    (row,) = page.table(*HEAD_OF_MASKS)
    iou, dice = (evaluation["test"].score(name, "vein") for name in ("iou", "dice"))
    low, high = some(iou.interval)
    assert row[:4] == ["vein", f"{iou.value:.3f}", f"{low:.3f} to {high:.3f}", f"{dice.value:.3f}"]


def test_the_traits_are_those_of_the_rows(page: Any, reported: RunFolder) -> None:
    split = next(split for split in read_run_record(reported).evaluated if split.key == "train")
    table = page.table("trait", "images", "true, mean", "predicted, mean", "bias", "RMSE", "correlation")
    traits = read_trait_pairs(read_image_rows(split.folder))
    assert [row[0] for row in table] == [trait.axis for trait in traits]
    assert "vein density, mm/mm²" in [row[0] for row in table]
    assert [float(row[4]) for row in table] == pytest.approx([compute_agreement(t).bias for t in traits], rel=1e-3)


def test_the_summary_describes_the_network(page: Any) -> None:
    text = " ".join(page.sections["Summary"].split())
    assert "classifies 3 classes and segments vein" in text
    assert "backbone test_efficientnet, attention mean_max, trained on images of 64 x 64 px" in text


def tiles_of(text: Any) -> Any:
    """Title, value and interval of each tile."""
    tiles = text[text.index('<div class="tiles">') :]
    return re.findall("<div><span>(.*?)</span><b>(.*?)</b><span>(.*?)</span></div>", tiles[: tiles.index("<p")])


def test_the_tiles_are_the_headline_scores_of_the_test_split(
    reported: RunFolder, evaluation: dict[str, Evaluation]
) -> None:
    expected = []
    for score in evaluation["test"].scores:
        if score.headline:
            form = DIGITS.get(score.unit, ".3f")
            interval = " to ".join(format(bound, form) for bound in score.interval or ())
            interval += ", Wilson" * (score.method == "Wilson")
            expected.append((score.title, format(score.value, form), f"95 %: {interval}" if interval else ""))
    assert tiles_of(render_run_page(read_run_record(reported))) == expected
    assert [title for title, *_ in expected] == [
        "accuracy", "macro F1", "calibration error", "IoU of vein", "Dice of vein", "clDice of vein",
        "Betti-0 error of vein", "Betti-1 error of vein", "areole F1 of vein",
    ]  # fmt: skip


def test_the_background_has_no_tile(own_reported: RunFolder) -> None:
    save_with_masks(own_reported, ("background", "leaf", "rust"))
    tiles = tiles_of(render_run_page(read_run_record(own_reported)))
    assert [title for title, *_ in tiles if "IoU" in title] == ["IoU of leaf", "IoU of rust"]


def save_with_masks(run: Any, names: Any) -> None:
    """Replace evaluation.json by one whose test split has these mask classes."""
    entry = read_evaluations(run)["test"]
    masks = [replace(score, mask_class=name) for name in names for score in entry.of_group("segmentation")]
    run.evaluation_file.unlink()
    save_evaluation(run, "test", replace(entry, scores=(*entry.of_group("classification"), *masks)))


def test_intervals_over_groups_are_called_so(own_reported: RunFolder, page_of: Callable[..., Any]) -> None:
    entry = read_evaluations(own_reported)["test"]
    sizes = {**entry.sizes, "classification": SampleSize(3, "groups", 2)}
    save_evaluation(own_reported, "test", replace(entry, sizes=sizes))
    page = page_of(own_reported)
    assert "classification: 95 % interval over 2 groups (plants) of 3 images" in page.sections["Summary"]
    drawn = {row[1]: row[4] for row in page.table(*SCORE_COLUMNS) if row[0] == "test"}
    assert (drawn["accuracy"], drawn["IoU of vein"]) == ("2 groups (plants)", "3 images")


@pytest.mark.parametrize(
    ("split", "words"), [("val", "Validation selected the epoch"), ("train", "was trained on these images")]
)
def test_scores_that_are_too_high_are_called_so_and_the_test_split_is_asked_for(
    own_reported: RunFolder, page_of: Callable[..., Any], split: str, words: str
) -> None:
    entry = read_evaluations(own_reported)["test"]
    own_reported.evaluation_file.unlink()
    save_evaluation(own_reported, split, entry)
    text = " ".join(page_of(own_reported).sections["Summary"].split())
    assert words in text
    assert f"Scores on split {split}, 3 images." in text
    assert f"mnsa evaluate {own_reported.path}" in text

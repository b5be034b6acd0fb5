"""The page of a run: every section, from its folder alone, and the folder's own numbers."""

import base64
import io
import json
import re
import shutil

import pytest
from PIL import Image

from mnsa.report.run_page import render_run_page, write_run_report
from mnsa.report.run_record import read_run_record
from mnsa.run_folder import RunFolder
from mnsa.workflows.evaluate import evaluate_run

SECTIONS = ["Summary", "Learning curves", "Split test", "Split train", "Calibration", "Config", "Provenance"]


@pytest.fixture(scope="module")
def page(reported, read_page):
    return read_page(render_run_page(read_run_record(reported)))


@pytest.fixture
def page_of(read_page):
    return lambda run: read_page(render_run_page(read_run_record(run)))


def test_it_holds_every_section_and_links_to_each(page):
    assert list(page.sections)[1:] == SECTIONS
    assert all(page.sections.values())
    anchors = [link for link in page.links if link.startswith("#part")]
    assert anchors == [f"#part{n}" for n in range(len(SECTIONS))]
    for words in ("Confusion matrix", "Most confused pairs", "Classes, the worst first", "Mask classes"):
        assert words in page.sections["Split test"]
    for words in ("Worst masks", "Best masks", "Worst classified", "Best classified", "Traits"):
        assert words in page.sections["Split train"]


def test_it_needs_nothing_from_elsewhere_and_runs_nothing(page, reported):
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    text = render_run_page(read_run_record(reported))
    assert not re.search(r"""url\((?!#)|@import|\son\w+=|https?://(?!www\.w3\.org)""", text)


def test_no_two_elements_have_one_id_and_every_reference_is_met(page):
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_its_pictures_are_whole_and_say_what_they_show(page):
    pictures = [link for link in page.links if link.startswith("data:image/jpeg")]
    assert len(pictures) > 20
    for link in pictures:
        with Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) as image:
            image.load()
    assert all("cultivar" in alt for alt in page.alts)


def test_the_numbers_are_those_of_evaluation_json(page, evaluation):
    rows = page.table("split", "score", "value", "95 % interval", "images")
    shown = {(split, score): (value, sure) for split, score, value, sure, _ in rows}
    for split, scores in evaluation.items():
        classes, vein = scores["classification"], scores["segmentation"]["classes"]["vein"]
        low, high = classes["accuracy_interval"]
        assert shown[split, "accuracy"] == (f"{classes['accuracy']:.3f}", f"{low:.3f} to {high:.3f}")
        assert shown[split, "macro F1"][0] == f"{classes['macro_f1']:.3f}"
        assert shown[split, "IoU of vein"][0] == f"{vein['iou']:.3f}"
        assert shown[split, "Dice of vein"][0] == f"{vein['dice']:.3f}"


def test_config_and_provenance_are_the_folders(page, reported):
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


def test_widths_of_each_level_are_a_line_each(own_run, page_of):
    text = own_run.config_file.read_text()
    rows = "".join("    [\n" + "        0.125,\n" * 5 + "    ],\n" for _ in range(5))
    own_run.config_file.write_text(re.sub(r"\nwidths = \[[^\]]*\]", f"\nwidths = [\n{rows}]", text))
    assert page_of(own_run).sections["Config"].splitlines().count("    [0.125, 0.125, 0.125, 0.125, 0.125],") == 5


def test_it_is_made_of_the_folder_alone_and_the_same_each_time(own_reported, reported, tmp_path):
    moved = RunFolder(shutil.move(own_reported.path, tmp_path / "elsewhere" / "first"))
    text = render_run_page(read_run_record(moved))
    assert text.replace(str(moved.path), "") == render_run_page(read_run_record(reported)).replace(
        str(reported.path), ""
    )


def test_writing_it_twice_leaves_one(own_reported):
    for _ in range(2):
        write_run_report(own_reported)
    assert own_reported.report_file.read_text().startswith("<!DOCTYPE html>")
    assert not list(own_reported.path.glob("report.html.*"))


def test_names_from_outside_are_shown_not_run(own_reported):
    file = own_reported.evaluation_file
    file.write_text(file.read_text().replace("cultivar_01", "<script>a</script> & $b$"))
    text = render_run_page(read_run_record(own_reported))
    assert "<script>" not in text
    assert "&lt;script&gt;a&lt;/script&gt; &amp; $b$" in text


def test_a_run_that_was_not_scored_says_which_commands_do_it(finished, page_of):
    page = page_of(finished)
    assert f"mnsa evaluate {finished.path}" in page.sections["Summary"]
    assert f"mnsa calibrate {finished.path}" in page.sections["Calibration"]
    assert "svg" in page.tags  # its learning curves are there


def test_a_run_that_was_interrupted_says_how_it_goes_on(own_run, page_of):
    shutil.rmtree(own_run.model_folder)
    own_run.metrics_file.unlink()
    page = page_of(own_run)
    for section in ("Summary", "Learning curves"):
        assert f"mnsa train --resume {own_run.path}" in page.sections[section]


def test_an_imported_network_has_no_epochs_to_show(own_run, page_of):
    own_run.metrics_file.unlink()
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps(provenance | {"checkpoint": "best.pth"}))
    assert "imported from best.pth" in page_of(own_run).sections["Learning curves"]


def test_missing_pieces_of_a_scored_run_name_their_command(own_reported, page_of):
    shutil.rmtree(own_reported.predictions_folder / "train")
    page = page_of(own_reported)
    assert f"mnsa evaluate {own_reported.path} --split train" in page.sections["Split train"]
    assert f"mnsa evaluate {own_reported.path} --traits" in page.sections["Split test"]


def test_scores_from_before_the_calibration_are_called_so(own_reported, page_of):
    calibration = own_reported.path / "calibration.json"
    kept = calibration.read_text()
    calibration.unlink()
    evaluate_run(own_reported.path)
    calibration.write_text(kept)
    said = page_of(own_reported).sections["Calibration"]
    assert "Split test was scored before the calibration." in said
    assert "Split test, not calibrated" in said
    assert "Split train, calibrated" in said


def test_a_calibration_of_other_weights_is_not_shown(own_reported, page_of):
    calibration = own_reported.path / "calibration.json"
    calibration.write_text(re.sub(r'"weights_sha256": "\w+"', '"weights_sha256": "0"', calibration.read_text()))
    said = page_of(own_reported).sections["Calibration"]
    assert "was found for other weights" in said
    assert f"mnsa calibrate {own_reported.path}" in said
    assert "Temperature" not in said


@pytest.mark.parametrize(
    ("task", "there", "absent"),
    [
        ("classes", ("Confusion matrix", "Worst classified"), ("Mask classes", "Worst masks", "Traits")),
        ("masks", ("Mask classes", "Worst masks", "Traits"), ("Confusion matrix", "Worst classified")),
    ],
)
def test_a_run_of_one_task_has_a_page_of_it(one_task, page_of, task, there, absent):
    run = one_task(task)
    traits = {"vein": ()} if task == "masks" else None
    evaluate_run(run.path, traits=traits)
    page = page_of(run)
    for words in there:
        assert words in page.sections["Split test"]
    for words in absent:
        assert words not in page.sections["Split test"]
    assert ("so there is nothing to be sure of" in page.sections["Calibration"]) == (task == "masks")

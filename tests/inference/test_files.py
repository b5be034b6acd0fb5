"""Answers for many files: each in the table, each picture under its own name, none lost to a broken neighbour."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from mnsa.data.images import read_mask
from mnsa.errors import DataError, RunError
from mnsa.inference.files import find_images, predict_files
from mnsa.traits import Ruler, find_roles


@pytest.fixture
def photos(dataset, tmp_path):
    """Two folders of leaves of odd sizes; `twin` stands in both."""
    leaves = sorted((dataset / "images").iterdir())
    for name, size, leaf in (("twin.jpg", (70, 45), 0), ("other.png", (33, 90), 6), ("deep/twin.PNG", (64, 64), 12)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(leaves[leaf]).resize(size).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def size_of(path):
    with Image.open(path) as image:
        return image.size


def table_of(answers):
    return list(csv.DictReader(answers.table.read_text(encoding="utf-8").splitlines()))


def test_folders_files_and_globs_name_images_once_each(photos):
    everything = find_images([str(photos)])
    assert [path.relative_to(photos).as_posix() for path in everything] == ["deep/twin.PNG", "other.png", "twin.jpg"]
    assert find_images([str(photos / "*.jpg"), str(photos / "twin.jpg"), str(photos)])[0] == photos / "twin.jpg"
    assert len(find_images([str(photos / "*.jpg"), str(photos / "twin.jpg"), str(photos)])) == 3
    assert find_images([str(photos / "**/twin.*")]) == [photos / "deep/twin.PNG", photos / "twin.jpg"]


def test_a_relative_glob_starts_from_the_working_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert [path.as_posix() for path in find_images(["*.png", "deep/*"])] == ["other.png", "deep/twin.PNG"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(photos):
    odd = photos / "leaf[1].png"
    shutil.copy(photos / "other.png", odd)
    assert find_images([str(odd)]) == [odd]


@pytest.mark.parametrize("pattern", ["nowhere", "nowhere/*.jpg", "*.xyz"])
def test_a_pattern_that_names_nothing_is_an_error(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="names no image file"):
        find_images([pattern])


def test_the_table_says_class_probabilities_and_share_of_each_mask_class(photos, predictor, tmp_path):
    answers = predict_files(predictor, find_images([str(photos)]), tmp_path / "answers")
    rows = table_of(answers)
    assert (answers.done, answers.broken) == (3, 0)
    assert list(rows[0]) == ["image", "class", "probability", "top5", "share_vein", "error"]
    for row in rows:
        answer = predictor.predict(row["image"])
        assert row["class"] == predictor.classes[answer.class_probs.argmax()]
        assert float(row["probability"]) == pytest.approx(answer.class_probs.max(), abs=1e-4)
        ranking = dict(pair.rsplit(" ", 1) for pair in row["top5"].split("; "))
        assert ranking.keys() == set(predictor.classes)
        assert sum(map(float, ranking.values())) == pytest.approx(1, abs=1e-3)
        assert float(row["share_vein"]) == pytest.approx(answer.mask.mean(), abs=1e-6)
        assert row["error"] == ""


def test_a_ruler_adds_a_column_per_trait_measured_on_the_answers_mask(photos, predictor, tmp_path):
    ruler = Ruler(find_roles(predictor.mask_classes), px_per_mm=4.0)
    (photos / "empty.png").write_bytes(b"")
    rows = table_of(predict_files(predictor, find_images([str(photos)]), tmp_path / "answers", ruler=ruler))
    assert list(rows[0]) == ["image", "class", "probability", "top5", "share_vein", *ruler.columns, "error"]
    for row in rows:
        measured = {name: row[name] for name in ruler.columns}
        if row["error"]:
            assert set(measured.values()) == {""}
        else:
            assert measured == ruler.row(predictor.predict(row["image"]).mask)
            assert float(row["vein_ground_area_mm2"]) >= 0


def test_masks_read_back_equal_and_overlays_have_the_images_size(photos, predictor, tmp_path):
    out = tmp_path / "answers"
    predict_files(predictor, [photos / "other.png"], out)
    np.testing.assert_array_equal(
        read_mask(out / "masks" / "other.png", 1).numpy(), predictor.predict(photos / "other.png").mask
    )
    assert size_of(out / "overlays" / "other.png") == (33, 90)
    assert (out / "sheet.png").exists()


def test_two_images_of_one_name_have_pictures_of_their_own(photos, predictor, tmp_path):
    out = tmp_path / "answers"
    predict_files(predictor, find_images([str(photos)]), out)
    sizes = {path.name: size_of(path) for path in (out / "masks").iterdir()}
    assert sizes == {"twin.png": (64, 64), "other.png": (33, 90), "twin-2.png": (70, 45)}
    assert {path.name for path in (out / "overlays").iterdir()} == sizes.keys()


def test_a_broken_file_is_listed_with_its_reason_and_the_others_are_done(photos, predictor, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    (photos / "empty.png").write_bytes(b"")
    answers = predict_files(predictor, find_images([str(photos)]), tmp_path / "answers")
    reasons = {row["image"].rsplit("/", 1)[1]: row["error"] for row in table_of(answers)}
    assert (answers.done, answers.broken) == (3, 2)
    assert "broken.jpg" in reasons["broken.jpg"]
    assert "0 bytes" in reasons["empty.png"]
    assert [name for name, reason in reasons.items() if not reason] == ["twin.PNG", "other.png", "twin.jpg"]


def test_nothing_but_broken_files_leaves_a_table_and_no_sheet(predictor, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    answers = predict_files(predictor, [tmp_path / "empty.png"], tmp_path / "answers")
    assert answers.sheet is None
    assert [path.name for path in (tmp_path / "answers").iterdir()] == ["predictions.csv"]


def test_a_folder_that_exists_is_left_as_it_is(photos, predictor):
    before = sorted(photos.rglob("*"))
    with pytest.raises(RunError, match="exists and is left as it is"):
        predict_files(predictor, [photos / "twin.jpg"], photos)
    assert sorted(photos.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_an_error(photos, predictor):
    with pytest.raises(RunError, match=r"can't be written.*Choose another --out"):
        predict_files(predictor, [photos / "twin.jpg"], photos / "notes.txt" / "answers")

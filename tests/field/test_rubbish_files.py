"""Files that desktops, notebooks and mnsa itself leave in folders change no result."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from field_inputs import IMPORTS, TRAITS, Command, count_of, make_photos, rows_of, write_photo

from mnsa.data.paths import PassedOver, find_images, scan_images
from mnsa.run_folder import RunFolder


def apple_double(photos: Path) -> None:
    for path in [*photos.iterdir()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")


def checkpoints(photos: Path) -> None:
    write_photo(photos / ".ipynb_checkpoints/0-checkpoint.png")


def macos_archive(photos: Path) -> None:
    write_photo(photos / "__MACOSX/0.png")


def desktop_files(photos: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "ehthumbs.db"):
        (photos / name).write_bytes(b"\0" * 10)


def hidden_photo(photos: Path) -> None:
    write_photo(photos / ".0_0000.png")


def synology_thumbnails(photos: Path) -> None:
    write_photo(photos / "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg")


def earlier_predictions(photos: Path) -> None:
    write_photo(photos / "answers/masks/0.png")
    (photos / "answers/predictions.json").write_text("{}")


def earlier_dataset(photos: Path) -> None:
    write_photo(photos / "leaves/images/0.png")
    (photos / "leaves/manifest.csv").write_text("image\nimages/0.png\n")


RUBBISH = {
    function.__name__: function
    for function in (
        apple_double, checkpoints, macos_archive, desktop_files, hidden_photo, synology_thumbnails,
        earlier_predictions, earlier_dataset,
    )
}  # fmt: skip


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("verb", [*IMPORTS, *TRAITS])
def test_rubbish_changes_no_result(mnsa: Command, tmp_path: Path, verb: str, rubbish: str) -> None:
    make, photos, arguments, count = {**IMPORTS, **TRAITS}[verb]
    make(tmp_path / "in")
    RUBBISH[rubbish](tmp_path / "in" / photos)
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert count_of(tmp_path / "out") == count


@pytest.mark.parametrize("verb", IMPORTS)
def test_rubbish_beside_everything_changes_no_result(mnsa: Command, tmp_path: Path, verb: str) -> None:
    make, _, arguments, count = IMPORTS[verb]
    make(tmp_path / "in")
    for folder in [path for path in (tmp_path / "in").rglob("*") if path.is_dir()]:
        for litter in (apple_double, checkpoints, macos_archive, desktop_files):
            litter(folder)
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert count_of(tmp_path / "out") == count


def test_predict_answers_each_photo_once_beside_rubbish_and_earlier_answers(
    mnsa: Command, finished: RunFolder, tmp_path: Path
) -> None:
    make_photos(tmp_path / "in")
    for litter in RUBBISH.values():
        litter(tmp_path / "in")
    out = tmp_path / "out"
    assert mnsa("predict", finished.path, tmp_path / "in", "--out", out).code == 0
    assert [Path(row["image"]).name for row in rows_of(out)] == ["0.png", "1.png"]


@pytest.mark.parametrize("pattern", ["*.png", "**/*.png"])
def test_a_glob_matches_no_rubbish(tmp_path: Path, pattern: str) -> None:
    make_photos(tmp_path)
    for litter in RUBBISH.values():
        litter(tmp_path)
    assert [path.name for path in find_images([str(tmp_path / pattern)])] == ["0.png", "1.png"]


def test_a_glob_that_leads_into_predictions_matches_their_masks(tmp_path: Path) -> None:
    earlier_predictions(tmp_path)
    assert [path.name for path in find_images([str(tmp_path / "a*/masks/*.png")])] == ["0.png"]


@pytest.mark.parametrize("verb", ["predict", "traits"])
def test_a_folder_of_predictions_is_refused_with_the_folder_that_is_meant(
    refused: Callable[..., str], finished: RunFolder, tmp_path: Path, verb: str
) -> None:
    earlier_predictions(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    run = [finished.path] if verb == "predict" else []
    message = refused(verb, *run, tmp_path / "answers", "--out", tmp_path / "out")
    assert f"{tmp_path}/answers/masks" in message
    assert sorted(tmp_path.rglob("*")) == before


def test_the_masks_of_predictions_are_given_by_their_folder(tmp_path: Path) -> None:
    earlier_predictions(tmp_path)
    assert [path.name for path in find_images([str(tmp_path / "answers/masks")])] == ["0.png"]


def test_a_data_set_that_is_given_itself_is_read(tmp_path: Path) -> None:
    earlier_dataset(tmp_path)
    assert [path.name for path in find_images([str(tmp_path / "leaves")])] == ["0.png"]


def test_a_walk_says_what_it_passes_over(tmp_path: Path) -> None:
    make_photos(tmp_path)
    for litter in RUBBISH.values():
        litter(tmp_path)
    (tmp_path / "b/c").mkdir(parents=True)
    for name in ("1.AVIF", "2.avif", "3.cr2", "README"):
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "leaves")
    passed = PassedOver()
    assert [str(path) for path in scan_images(tmp_path, passed)] == ["0.png", "1.png"]
    assert passed.other == {".avif": 2, ".cr2": 1, "": 1}
    assert sorted(passed.outputs) == ["answers", "leaves"]
    assert (passed.links, passed.empty) == (["linked"], ["b"])
    assert passed.ignored == 2 + 1 + 1 + 4 + 1 + 1


def test_a_zip_of_photos_with_a_data_set_among_them_gives_the_photos(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["zip"]
    make(tmp_path / "in")
    (tmp_path / "in/predictions.json").write_text(json.dumps({}))  # of the archive as a whole
    mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert count_of(tmp_path / "out") == count

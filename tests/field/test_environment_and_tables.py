"""Tables as spreadsheets and pandas write them, byte order marks, batch jobs, moved data, odd numbers and suffixes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from field_inputs import IMPORTS, Command, count_of, make_masks, write_photo, write_vein
from PIL import Image

from mnsa.data.decode import read_mask_indices
from mnsa.data.manifest import read_manifest
from mnsa.run_folder import RunFolder

TABLES = {
    "semicolons": "image;label\na/0.png;a\nb/1.png;b\na/2.png;a\nb/3.png;b\n",
    "semicolons and a byte order mark": "\ufeffimage;label\r\na/0.png;a\r\nb/1.png;b\r\na/2.png;a\r\nb/3.png;b\r\n",
    "index of pandas": ",image,label\n0,a/0.png,a\n1,b/1.png,b\n2,a/2.png,a\n3,b/3.png,b\n",
    "trailing commas": "image,label,,\na/0.png,a,,\nb/1.png,b,,\na/2.png,a,,\nb/3.png,b,,\n",
    "trailing commas in rows": "image,label\na/0.png,a,,\nb/1.png,b,\na/2.png,a\nb/3.png,b\n",
    "tabs": "image\tlabel\na/0.png\ta\nb/1.png\tb\na/2.png\ta\nb/3.png\tb\n",
    "sep=": "sep=;\r\nimage;label\r\na/0.png;a\r\nb/1.png;b\r\na/2.png;a\r\nb/3.png;b\r\n",
    "an index read again": "Unnamed: 0,image,label\n0,a/0.png,a\n1,b/1.png,b\n2,a/2.png,a\n3,b/3.png,b\n",
    "returns alone": "image,label\ra/0.png,a\rb/1.png,b\ra/2.png,a\rb/3.png,b\r",
    "spaces": "image , label\na/0.png, a\nb/1.png,b \na/2.png,a\u00a0\nb/3.png,b\n",
    "blank rows": "image,label\na/0.png,a\n,\nb/1.png,b\n\na/2.png,a\n , \nb/3.png,b\n,\n",
}


def test_greek_paths_are_shown_on_a_terminal_of_western_europe(tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["folders"]
    make(tmp_path / "φύλλα")
    command = [sys.executable, "-m", "mnsa", *map(str, arguments(tmp_path / "φύλλα", tmp_path / "σετ"))]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    ending = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (ending.returncode, ending.stderr) == (0, b"")
    assert b"\\u03c3\\u03b5\\u03c4" in ending.stdout
    assert count_of(tmp_path / "σετ") == count


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ("{command} --out out > /dev/full", "No space left on device. Free space"),
        ("mkdir gone && cd gone && rmdir ../gone && {command} --out ../out", "The current folder no longer exists"),
    ],
)
def test_a_full_disk_and_a_folder_that_is_gone_are_named(tmp_path: Path, shell: str, reason: str) -> None:
    IMPORTS["folders"].make(tmp_path / "in")
    command = f"{sys.executable} -m mnsa import folders {tmp_path / 'in'}"
    ending = subprocess.run(
        shell.format(command=command), shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ending.returncode == 2
    assert reason in ending.stderr
    assert "Traceback" not in ending.stderr
    assert "Exception" not in ending.stderr


@pytest.mark.parametrize("verb", ["check", "split"])
@pytest.mark.parametrize("name", ["manifest.csv", "dataset.toml"])
def test_a_file_of_a_data_set_in_its_place_is_named(mnsa: Command, tmp_path: Path, verb: str, name: str) -> None:
    make, _, arguments, _ = IMPORTS["folders"]
    make(tmp_path / "in")
    mnsa(*arguments(tmp_path / "in", tmp_path / "set"))
    options = (
        ["--val-fraction", "0.2", "--test-fraction", "0.2", "--out", tmp_path / "x"] if verb == "split" else ["--json"]
    )
    ending = mnsa(verb, tmp_path / "set" / name, *options)
    assert ending.code == 2
    assert "Give the folder" in ending.out + ending.err


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_spreadsheets_and_pandas_are_read(mnsa: Command, tmp_path: Path, table: str) -> None:
    make, _, arguments, count = IMPORTS["csv"]
    make(tmp_path / "in")
    (tmp_path / "in/table.csv").write_text(TABLES[table], newline="", encoding="utf-8")
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert count_of(tmp_path / "out") == count
    assert read_manifest(tmp_path / "out").classes == ("a", "b")
    assert all(not row.extra for row in read_manifest(tmp_path / "out").rows)


def test_unicode_text_of_excel_is_read(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["csv"]
    make(tmp_path / "in")
    (tmp_path / "in/table.csv").write_text(TABLES["tabs"], encoding="utf-16")
    assert mnsa(*arguments(tmp_path / "in", tmp_path / "out")).code == 0
    assert count_of(tmp_path / "out") == count


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\3\4...", "is a workbook of a spreadsheet program"),
        (b"\xd0\xcf\x11\xe0...", "is a workbook of a spreadsheet program"),
        ("image,label\na/K\xe4fer.png,a\n".encode("cp1252"), "is not UTF-8 text"),
        (b"image,label\n", "has no rows"),
        (b"Image,Label\na/0.png,a\n", "Name the column, such as --image 'Image'"),
        (b"image,label\na/0.png,a\0\n", "with a control character"),
        (b'image,label\na/0.png,"a\nb"\n', "with a control character"),
    ],
)
def test_other_files_of_spreadsheets_are_named(
    refused: Callable[..., str], tmp_path: Path, content: bytes, reason: str
) -> None:
    make, _, arguments, _ = IMPORTS["csv"]
    make(tmp_path / "in")
    (tmp_path / "in/table.csv").write_bytes(content)
    message = refused(*arguments(tmp_path / "in", tmp_path / "out"))
    assert "table.csv" in message
    assert reason in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "table", ["image,,label\na/0.png,,a\n", "image,label\na/0.png\n", "image,label\na/0.png,a,x\n"]
)
def test_ambiguous_tables_are_refused(refused: Callable[..., str], tmp_path: Path, table: str) -> None:
    make, _, arguments, _ = IMPORTS["csv"]
    make(tmp_path / "in")
    (tmp_path / "in/table.csv").write_text(table)
    assert "table.csv" in refused(*arguments(tmp_path / "in", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", ["1e-300", "1e300", "0", "-1", "nan", "inf"])
def test_a_scale_out_of_range_is_refused(refused: Callable[..., str], tmp_path: Path, scale: str) -> None:
    make_masks(tmp_path / "in")
    message = refused("traits", tmp_path / "in", "--px-per-mm", scale, "--out", tmp_path / "out.csv")
    assert "--px-per-mm is" in message
    assert not (tmp_path / "out.csv").exists()


def test_a_data_set_with_byte_order_marks_is_read(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["folders"]
    make(tmp_path / "in")
    mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    for name in ("dataset.toml", "manifest.csv"):
        file = tmp_path / "out" / name
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert count_of(tmp_path / "out") == count


@pytest.mark.parametrize("suffix", ["_1stHO", "_2ndHO", "_2ndho", "_Mask", "_mask", "_MASK", "_manual1"])
def test_mask_suffixes_of_public_data_sets_are_known(mnsa: Command, tmp_path: Path, suffix: str) -> None:
    for number in range(3):
        write_photo(tmp_path / "in/images" / f"Image_0{number}L.png", number)
        write_vein(tmp_path / "in/masks" / f"Image_0{number}L{suffix}.png")
    assert mnsa(*IMPORTS["masks"].arguments(tmp_path / "in", tmp_path / "out")).code == 0
    assert all(row.mask for row in read_manifest(tmp_path / "out").rows)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("white_first", [True, False])
def test_gif_masks_are_read_by_the_colors_of_their_first_frame(
    mnsa: Command, tmp_path: Path, frames: int, white_first: bool
) -> None:
    """DRIVE: images/21_training.tif, 1st_manual/21_manual1.gif."""
    palette = [255] * 3 + [0] * 3 if white_first else [0] * 3 + [255] * 3
    for number in (21, 22, 23):
        write_photo(tmp_path / f"in/images/{number}_training.tif", number)
        vein = write_vein(tmp_path / f"in/{number}.png")
        mask = Image.fromarray((np.asarray(Image.open(vein)) > 0).astype(np.uint8) ^ white_first)
        mask.putpalette(palette)
        path = tmp_path / f"in/1st_manual/{number}_manual1.gif"
        path.parent.mkdir(exist_ok=True)
        others = [Image.new("P", mask.size)] * (frames - 1)
        mask.save(path, save_all=True, append_images=others, optimize=False)
    folders = tmp_path / "in/images", tmp_path / "in/1st_manual"
    ending = mnsa("import", "masks", *folders, "--mask-class", "vein", "--out", tmp_path / "out")
    assert ending.code == 0, ending
    manifest = read_manifest(tmp_path / "out")
    expected = np.asarray(Image.open(tmp_path / "in/21.png")) > 0
    assert all((read_mask_indices(manifest.mask_path(row), 1) == expected).all() for row in manifest.rows)
    found = mnsa("check", tmp_path / "out").out
    assert "unreadable" not in found
    assert ("animated" in found) == (frames == 2)
    ending = mnsa("traits", manifest.mask_path(manifest.rows[0]), "--out", tmp_path / "traits.csv")
    assert ending.code == 0


@pytest.mark.parametrize("name", ["study 1?", "50%", "a#b"])
def test_a_study_whose_database_url_would_lie_is_refused(
    refused: Callable[..., str], dataset: Path, tmp_path: Path, name: str
) -> None:
    configs = Path(__file__).parents[2] / "configs"
    arguments = ["--data", dataset, "--out", tmp_path / "studies" / name, "--trials", 1]
    assert "in its path" in refused("search", configs / "search.toml", *arguments)
    assert not (tmp_path / "studies").exists()


def test_a_run_whose_data_moved_is_resumed_with_the_new_folder(
    mnsa: Command, own_run: RunFolder, own_dataset: Path, tmp_path: Path
) -> None:
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps({**provenance, "dataset": str(tmp_path / "gone")}))
    ending = mnsa("train", "--resume", own_run.path)
    assert ending.code == 2
    assert f"mnsa train --resume {own_run.path} --data" in ending.err
    changed = shutil.copytree(own_dataset, tmp_path / "changed")
    table = changed / "manifest.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert "has changed since" in mnsa("train", "--resume", own_run.path, "--data", changed).err
    assert mnsa("train", "--resume", own_run.path, "--data", own_dataset).code == 0
    assert json.loads(own_run.provenance_file.read_text())["dataset"] == str(own_dataset)


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "fit-trees"])
def test_a_run_whose_data_moved_asks_for_the_new_folder(
    refused: Callable[..., str], own_run: RunFolder, tmp_path: Path, verb: str
) -> None:
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps({**provenance, "dataset": str(tmp_path / "gone")}))
    message = refused(verb, own_run.path)
    assert f"{tmp_path}/gone" in message
    assert "--data FOLDER" in message


@pytest.mark.parametrize(("name", "text"), [("WORLD_SIZE", "x"), ("WORLD_SIZE", ""), ("RANK", "first")])
@pytest.mark.parametrize("verb", ["train", "predict"])
def test_an_environment_that_is_wrong_is_named_before_anything_is_made(
    refused: Callable[..., str], dataset: Path, config_file: Path, finished: RunFolder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, verb: str, name: str, text: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(name, text)
    out = ["--out", tmp_path / "out"]
    train = ["train", config_file, "--data", dataset, *out]
    message = refused(*(train if verb == "train" else ["predict", finished.path, dataset / "images", *out]))
    assert f"{name} " in message
    assert repr(text) in message
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_training_in_a_batch_job_of_many_tasks_is_one_process(
    mnsa: Command, dataset: Path, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "train",
        "SLURM_PROCID": "0",
        "SLURM_JOB_ID": "7",
    }.items():
        monkeypatch.setenv(name, value)
    assert mnsa("train", config_file, "--data", dataset, "--out", tmp_path / "run").code == 0

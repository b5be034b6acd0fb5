"""Names that reach a spreadsheet or a file system."""

import csv
import io
import zipfile

import numpy as np
import pytest

from mnsa.serving.responses import CsvBuilder, ZipBuilder
from mnsa.serving.service import ImagePrediction, OutputNames
from mnsa.structures import Prediction

NAMES = OutputNames((), ("vein",))


def predicted(name):
    mask = np.zeros((4, 4), np.uint8)
    return ImagePrediction(name, np.zeros((4, 4, 3), np.uint8), Prediction("", None, mask, None), 0.0)


@pytest.mark.parametrize("name", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@x.jpg"])
def test_a_spreadsheet_runs_no_file_name(name):
    table = CsvBuilder(NAMES, None)
    table.add(predicted(name))
    (row,) = csv.DictReader(io.StringIO(table.body().decode()))
    assert row["image"] == f"'{name}"


def test_entries_of_an_archive_have_plain_names_each_once():
    archive = ZipBuilder(CsvBuilder(NAMES, None))
    for name in ("..", "C:a.jpg", "c_a.png", "a?.tif", ".jpg", "leaf.jpg", "LEAF.png"):
        archive.add(predicted(name))
    with zipfile.ZipFile(io.BytesIO(archive.body())) as opened:
        masks = [name for name in opened.namelist() if name.startswith("masks/")]
    stems = [name.removeprefix("masks/").removesuffix(".png") for name in masks]
    assert stems == ["image", "C_a", "c_a-2", "a_", "jpg", "leaf", "LEAF-2"]

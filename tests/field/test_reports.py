"""One row per report of users of other tools: an input that is changed, and the words of the right answer.

A change of the small valid input of a verb (`field_inputs`) is read, and what is lost is said; or it is refused with
the name of the file and the way on, and nothing is written.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from field_inputs import IMPORTS, SIDE_PX, Command, count_of, write_photo, write_vein
from PIL import Image

Change = Callable[[Path], object]


class Report(NamedTuple):
    """A change of the input of a verb. says: a part of the output. rows: expected images; None: as without change."""

    verb: str
    change: Change
    says: str = ""
    rows: int | None = None


def edited(file: str, edit: Callable[[Any], object]) -> Change:
    """Change the JSON of a file in its place, or replace it by what `edit` returns."""

    def change(folder: Path) -> None:
        tree = json.loads((folder / file).read_text())
        result = edit(tree)
        (folder / file).write_text(json.dumps(tree if result is None else result))

    return change


def with_values(file: str, **values: object) -> Change:
    """Set values of the top level of a JSON file."""
    return edited(file, lambda tree: tree.update(values))


def replaced(file: str, old: str, new: str) -> Change:
    """Replace text in a file."""
    return lambda folder: (folder / file).write_text((folder / file).read_text().replace(old, new))


def written(file: str, content: str | bytes) -> Change:
    """Write a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / file).write_bytes(data)


def table(text: str) -> Change:
    """A table of the four photos: text with the cells of a third column and its header."""
    return written("table.csv", "image,label\n" + text)


def every(pattern: str, edit: Callable[[Path], object]) -> Change:
    return lambda folder: [edit(path) for path in sorted(folder.glob(pattern))]


def set_entries(key: str, **values: object) -> Callable[[Any], None]:
    """Set values of every entry of a list in a tree."""
    return lambda tree: [entry.update(values) for entry in tree[key]] and None  # type: ignore[return-value]


def set_regions(**values: object) -> Callable[[Any], None]:
    return lambda tree: [entry["regions"][0].update(values) for entry in tree.values()] and None  # type: ignore[return-value]


COCO, VIA, NNUNET, LABELME = "annotations/train.json", "via.json", "dataset.json", "0.json"


def times_255(path: Path) -> None:
    Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)


def add_gray_mask(folder: Path) -> None:
    Image.open(write_photo(folder / "masks/0.png")).convert("L").save(folder / "masks/0.png")


def add_masks_beside(folder: Path) -> None:
    for photo in sorted(folder.glob("[ab]/*.png")):
        write_vein(photo.with_name(f"{photo.stem}_mask.png"))


def add_second_mask(folder: Path) -> None:
    add_masks_beside(folder)
    write_vein(folder / "a/0_mask_1.png")


def add_folder(name: str) -> Change:
    return lambda folder: write_photo(folder / name / "7.png", 7)


READ = {
    # COCO
    "unknown sizes": Report("coco", edited(COCO, set_entries("images", width=None, height=None))),
    "sizes of 0": Report("coco", edited(COCO, set_entries("images", width=0, height=0))),
    "sizes as text": Report("coco", edited(COCO, set_entries("images", width=str(SIDE_PX), height=str(SIDE_PX)))),
    "sizes as fractions": Report("coco", edited(COCO, set_entries("images", width=16.0, height=16.0))),
    "no info": Report("coco", with_values(COCO, info=None, licenses=None)),
    "a polygon that ends where it begins": Report(
        "coco", edited(COCO, set_entries("annotations", segmentation=[[2, 2, 9, 2, 9, 9, 2, 2]]))
    ),
    "corners rounded out of the image": Report(
        "coco", edited(COCO, set_entries("annotations", segmentation=[[-0.4, 2, 16.4, 2, 9, 9]]))
    ),
    "no annotations": Report("coco", with_values(COCO, annotations=[]), "without a pixel: vein"),
    "a category that nobody used": Report(
        "coco", edited(COCO, lambda tree: tree["categories"].append({"id": 2, "name": "rust"})), "without a pixel: rust"
    ),
    "an outline of no area": Report(
        "coco", edited(COCO, set_entries("annotations", segmentation=[[2, 2, 9, 2, 5, 2]])), "4 annotations have no"
    ),
    # YOLO
    "labels without an image": Report(
        "yolo", written("train/labels/9.txt", "0 .2 .2 .8 .2 .8 .8\n"), "1 label files have no image, such as 9.txt"
    ),
    "an image without labels": Report("yolo", lambda folder: (folder / "train/labels/0.txt").unlink(), "Masks: 3;"),
    "a cache of labels": Report("yolo", written("train/labels.cache", b"\0")),
    "names with keys in quotes": Report("yolo", written("data.yaml", "train: train/images\nnames: {'0': vein}\n")),
    "a description of Roboflow": Report(
        "yolo",
        written("data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: [vein]\nroboflow: {a: b}\n"),
        "../valid/images of split val does not exist",
    ),
    "labels with a byte order mark": Report(
        "yolo", written("train/labels/0.txt", b"\xef\xbb\xbf0 .2 .2 .8 .2 .8 .8\r\n")
    ),
    "labels with tabs": Report("yolo", written("train/labels/0.txt", "0\t.2\t.2\t.8\t.2\t.8\t.8")),
    # nnU-Net
    "masks of 255": Report("nnunet", every("labelsTr/*.png", times_255)),
    "an ending without its dot": Report("nnunet", with_values(NNUNET, file_ending="png")),
    "an ending in upper case": Report("nnunet", with_values(NNUNET, file_ending=".PNG")),
    "files in upper case": Report("nnunet", every("*Tr/*.png", lambda path: path.rename(path.with_suffix(".PNG")))),
    "Background": Report("nnunet", with_values(NNUNET, labels={"Background": 0, "vein": 1})),
    "labels as text": Report("nnunet", with_values(NNUNET, labels={"background": "0", "vein": "1"})),
    "values of no class": Report(
        "nnunet",
        lambda folder: [
            every("labelsTr/leaf0.png", times_255)(folder),
            with_values(NNUNET, labels={"background": 0, "vein": 1, "leaf": 2})(folder),
        ],
        "Some mean no class",
    ),
    # VIA, Labelme, CVAT
    "a rectangle of no width": Report(
        "via",
        edited(VIA, set_regions(shape_attributes={"name": "rect", "x": 3, "y": 3, "width": 0, "height": 3})),
        "4 annotations have no pixel",
    ),
    "a whole project": Report("via", edited(VIA, lambda tree: {"_via_settings": {}, "_via_img_metadata": tree})),
    "a class that is a number": Report("via", edited(VIA, set_regions(region_attributes={"part": 3}))),
    "one side is unknown": Report("labelme", with_values(LABELME, imageHeight=None)),
    "sides as text": Report("labelme", with_values(LABELME, imageHeight="16", imageWidth="16")),
    "a path of Windows": Report("labelme", with_values(LABELME, imagePath="..\\photos\\0.png")),
    "pixels of the image in the file": Report("labelme", with_values(LABELME, imageData="aGk=")),
    "flags of the image": Report(
        "labelme", with_values(LABELME, flags={"rust": True, "mold": False}), "such as 'rust' of 0.png"
    ),
    "flags that are not set": Report("labelme", with_values(LABELME, flags={"rust": False})),
    "tags of the image": Report(
        "cvat",
        replaced("annotations.xml", "<polygon", '<tag label="rust" source="manual"></tag><polygon'),
        "tags of 4 images are left out, such as 'rust' of 0.png",
    ),
    "attributes of a shape": Report(
        "cvat",
        replaced("annotations.xml", '9,9"/>', '9,9"><attribute name="age">old</attribute></polygon>'),
    ),
    # tables
    "a decimal comma": Report("csv+scale", table("a/0.png,a,\"11,8\"\nb/1.png,b,\na/2.png,a,\nb/3.png,b,\n")),
    "scales of pandas": Report("csv+scale", table("a/0.png,a,11.8\nb/1.png,b,nan\na/2.png,a,NaN\nb/3.png,b,<NA>\n")),
    "scales of R": Report("csv+scale", table("a/0.png,a,11.8\nb/1.png,b,NA\na/2.png,a,NA\nb/3.png,b,NA\n")),
    "masks of None": Report("csv+mask", table("a/0.png,a,None\nb/1.png,b,nan\na/2.png,a,null\nb/3.png,b,\n")),
    "UTF-16 without a mark": Report(
        "csv", written("table.csv", "image,label\na/0.png,a\nb/1.png,b\na/2.png,a\nb/3.png,b\n".encode("utf-16-le"))
    ),
    "paths with spaces, dots and back slashes": Report(
        "csv", table(" a/0.png ,a\n./b/1.png,b\n.\\a\\2.png,a\nb//3.png,b\n")
    ),
    # masks
    "a mask that is damaged": Report(
        "masks+vein", written("masks/0.png", "x"), "masks/0.png is not an image in a supported format"
    ),
    "a mask of 0 bytes": Report("nnunet", written("labelsTr/leaf0.png", ""), "labelsTr/leaf0.png is empty"),
    "a mask in colors": Report(
        "masks+vein", lambda folder: write_photo(folder / "masks/0.png"), "masks/0.png has colors"
    ),
    "gray levels": Report("masks+vein", add_gray_mask, "no class"),
    # folders
    "masks beside their photos": Report("folders", add_masks_beside, "Masks: 4;"),
    "masks of no photo": Report("folders", lambda folder: write_vein(folder / "masks/x.png"), "1 masks have no image"),
    "a class of a word and a number": Report("folders", add_folder("class1"), rows=5),
    "a class that has a layout word in it": Report("folders", add_folder("test leaf"), rows=5),
}  # fmt: skip

REFUSED = {
    "boxes": Report("coco", edited(COCO, set_entries("annotations", segmentation=[])), "boxes are no masks"),
    "a polygon that is no list of polygons": Report(
        "coco", edited(COCO, set_entries("annotations", segmentation=[2, 2, 9, 2, 9, 9])), "annotation 1 (id 0)"
    ),
    "a polygon of two corners": Report(
        "coco", edited(COCO, set_entries("annotations", segmentation=[[2, 2, 9, 9]])), "2 corners; expected 3"
    ),
    "results of a detector": Report(
        "coco", edited(COCO, lambda tree: tree["annotations"]), "Give the file that the tool exports"
    ),
    "two categories of one name": Report(
        "coco", edited(COCO, lambda tree: tree["categories"].append({"id": 2, "name": "vein"})), "'vein' is named twice"
    ),
    "a file that was cut": Report("coco", written(COCO, '{"images": ['), "train.json can't be read as JSON"),
    "lines of JSON": Report("coco", written(COCO, "{}\n{}\n"), "train.json can't be read as JSON"),
    "a photo that is missing": Report("coco", lambda folder: (folder / "images/3.png").unlink(), "no image '3.png'"),
    "another size": Report("coco", edited(COCO, set_entries("images", width=99, height=99)), "99 x 99"),
    "boxes of YOLO": Report("yolo", written("train/labels/0.txt", "0 .5 .5 .2 .2\n"), "Export for segmentation"),
    "predictions with confidence": Report(
        "yolo", written("train/labels/0.txt", "0 .2 .2 .8 .2 .8 .8 .93\n"), "without a confidence (save_conf)"
    ),
    "coordinates in pixels": Report(
        "yolo", written("train/labels/0.txt", "0 20 20 80 20 80 80\n"), "0.txt, line 1 has a polygon corner at"
    ),
    "a number of classes": Report("yolo", written("data.yaml", "train: train/images\nnc: 1\n"), "data.yaml, names"),
    "a description with a tab": Report("yolo", written("data.yaml", "names:\n\t0: vein\n"), "data.yaml can't be read"),
    "regions of nnU-Net": Report(
        "nnunet", with_values(NNUNET, labels={"background": 0, "whole": [1, 2]}), "regions are not read"
    ),
    "volumes": Report("nnunet", with_values(NNUNET, file_ending=".nii.gz"), "flat images are read"),
    "no channel in the names": Report(
        "nnunet", every("imagesTr/*.png", lambda path: path.rename(path.with_name(path.name.replace("_0000", "")))),
        "expected NAME_0000.png",
    ),
    "a mask that is missing": Report(
        "nnunet", lambda folder: (folder / "labelsTr/leaf0.png").unlink(), "no labelsTr/leaf0.png. Add it"
    ),
    "a table of VIA": Report("via", written(VIA, "filename,file_size\n0.png,1\n"), "Export it again, as JSON"),
    "lines of VIA": Report(
        "via", edited(VIA, set_regions(shape_attributes={"name": "polyline", "all_points_x": [1, 2]})),
        "is a 'polyline', which is not read",
    ),
    "regions without a class": Report("via", edited(VIA, set_regions(region_attributes={})), "--attribute"),
    "two check boxes": Report(
        "via", edited(VIA, set_regions(region_attributes={"part": {"a": True, "b": True}})), "has the label"
    ),
    "no regions": Report(
        "via", edited(VIA, lambda tree: [entry.update(regions=[]) for entry in tree.values()] and None),
        "Draw and label at least one region",
    ),
    "a JSON file of another tool": Report(
        "labelme", written("settings.json", "{}"), "settings.json: shapes is None; expected Labelme's list. Remove"
    ),
    "a list of another tool": Report("labelme", written("list.json", "[]"), "list.json: expected names and values"),
    "lines of Labelme": Report(
        "labelme", edited(LABELME, lambda tree: tree["shapes"][0].update(shape_type="linestrip")), "0.json, shape 1"
    ),
    "text of Windows": Report(
        "labelme", written(LABELME, '{"imagePath": "Bl\xe4tter.png"}'.encode("cp1252")), "Save it as UTF-8"
    ),
    "a video": Report(
        "cvat", replaced("annotations.xml", "<annotations>", "<annotations><track></track>"), "CVAT for images 1.1"
    ),
    "points of CVAT": Report(
        "cvat", replaced("annotations.xml", "<polygon", "<points"), "is a 'points', which is not read"
    ),
    "Pascal VOC": Report("cvat", written("annotations.xml", "<annotation></annotation>"), "names no image"),
    "a document type": Report(
        "cvat", replaced("annotations.xml", "<annotations>", "<!DOCTYPE a><annotations>"), "has a document type"
    ),
    "a tiny scale": Report("csv+scale", table("a/0.png,a,1e-300\nb/1.png,b,\n"), "line 2: px_per_mm is"),
    "a scale with a unit": Report("csv+scale", table("a/0.png,a,11.8 px\nb/1.png,b,\n"), "line 2: px_per_mm is"),
    "a row twice": Report("csv", table("a/0.png,a\nb/1.png,b\n./a/0.png,a\n"), "table.csv, line 4: image"),
    "a quote that is open": Report("csv", table('"a/0.png,a\nb/1.png,b\n'), "Save it again as `CSV UTF-8`"),
    "a second mask beside a photo": Report("folders", add_second_mask, "masks of the same image. Merge them"),
    **{
        f"a folder {name}": Report("folders", add_folder(name), f"{name!r} would be a class")
        for name in (
            "GroundTruth", "ground_truth", "train_images", "Train-1", "trainA", "JPEGImages", "SegmentationClass",
            "labelsTr", "l2_mask", "leaf_masks", "img", "validation set",
        )
    },
}  # fmt: skip


def arguments_of(verb: str, folder: Path, out: Path) -> list[object]:
    """The command of a verb; `csv+scale` has the third column of its table as scale, `masks+vein` names a class."""
    name, _, column = verb.partition("+")
    if not column:
        return IMPORTS[name].arguments(folder, out)
    if column == "vein":
        return [*IMPORTS[name].arguments(folder, out), "--mask-class", column]
    text = (folder / "table.csv").read_text()
    (folder / "table.csv").write_text(text.replace("image,label\n", f"image,label,{column}\n"))
    option = {"scale": "--px-per-mm", "mask": "--mask"}[column]
    return [*IMPORTS[name].arguments(folder, out), option, column]


@pytest.mark.parametrize("report", READ)
def test_what_a_tool_means_is_read_and_what_is_lost_is_said(mnsa: Command, tmp_path: Path, report: str) -> None:
    verb, change, says, rows = READ[report]
    make, _, _, count = IMPORTS[verb.partition("+")[0]]
    make(tmp_path / "in")
    change(tmp_path / "in")
    ending = mnsa(*arguments_of(verb, tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert says in ending.out
    assert count_of(tmp_path / "out") == (count if rows is None else rows)
    if not says:
        assert not any(
            word in ending.out
            for word in ("without a pixel", "no pixel", "no class", "left out", "no image", "in no row")
        )


@pytest.mark.parametrize("report", REFUSED)
def test_what_is_not_read_is_refused_by_name(refused: Callable[..., str], tmp_path: Path, report: str) -> None:
    verb, change, says, _ = REFUSED[report]
    IMPORTS[verb.partition("+")[0]].make(tmp_path / "in")
    change(tmp_path / "in")
    message = refused(*arguments_of(verb, tmp_path / "in", tmp_path / "out"))
    assert says in message
    assert not (tmp_path / "out").exists()

"""Data sets with a problem in dataset.toml or manifest.csv: paths, labels, splits, classes and names."""

import shutil
import unicodedata

from broken_set import breaks
from editable_dataset import EditableDataset

# dataset.toml and manifest.csv as a whole


@breaks("manifest")
def invalid_toml(dataset: EditableDataset) -> str:
    (dataset.folder / "dataset.toml").write_text("classes = [")
    return str(dataset.folder)


@breaks("manifest")
def table_without_an_image_column(dataset: EditableDataset) -> str:
    (dataset.folder / "manifest.csv").write_text("picture,label\nx.png,a\n")
    return str(dataset.folder)


@breaks("manifest")
def table_in_a_western_encoding(dataset: EditableDataset) -> str:
    (dataset.folder / "manifest.csv").write_bytes("image\nblätter.png\n".encode("cp1252"))
    return str(dataset.folder)


# rows


@breaks("bad-row", "unlisted-file")
def row_with_too_many_cells(dataset: EditableDataset) -> str:
    table = dataset.folder / "manifest.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1] + ",extra", *lines[2:]]) + "\n")
    return "manifest.csv"


@breaks("bad-path")
def path_out_of_the_root(dataset: EditableDataset) -> str:
    dataset.rows.append({**dataset.first, "image": "../outside.jpg"})
    return "../outside.jpg"


@breaks("bad-path")
def absolute_path(dataset: EditableDataset) -> str:
    dataset.rows.append({**dataset.first, "image": "/etc/passwd"})
    return "/etc/passwd"


@breaks("bad-path", "unlisted-file")
def mask_path_with_backslashes(dataset: EditableDataset) -> str:
    dataset.first["mask"] = dataset.first["mask"].replace("/", "\\")
    return dataset.first["mask"]


@breaks("bad-path")
def row_without_an_image(dataset: EditableDataset) -> str:
    dataset.rows.append({**dataset.first, "image": ""})
    return "manifest.csv"


@breaks("bad-scale")
def scale_that_is_not_a_number(dataset: EditableDataset) -> str:
    dataset.rows[3]["px_per_mm"] = "wide"
    return "manifest.csv"


@breaks("label-unknown")
def misspelled_label(dataset: EditableDataset) -> str:
    dataset.rows[2]["label"] = "cultivar_O1"
    return dataset.rows[2]["image"]


@breaks("split-unknown")
def split_with_another_name(dataset: EditableDataset) -> str:
    dataset.rows[1]["split"] = "dev"
    return dataset.rows[1]["image"]


@breaks("mask-undeclared")
def masks_without_mask_classes(dataset: EditableDataset) -> str:
    dataset.update_toml(mask_classes=[])
    return dataset.first["mask"]


@breaks("listed-twice")
def image_listed_twice(dataset: EditableDataset) -> str:
    dataset.rows.append(dict(dataset.first))
    return dataset.first["image"]


@breaks("listed-twice")
def image_listed_twice_with_different_paths(dataset: EditableDataset) -> str:
    dataset.rows.append({**dataset.first, "image": f"./{dataset.first['image']}"})
    return dataset.rows[-1]["image"]


@breaks("group-leak")
def group_in_two_splits(dataset: EditableDataset) -> str:
    dataset.first_row_of("train")["group"] = dataset.first_row_of("test")["group"] = "plant 7"
    return dataset.first_row_of("test")["image"]


# classes and splits


@breaks("no-target")
def row_without_label_and_mask(dataset: EditableDataset) -> str:
    dataset.remove_mask(dataset.first)
    dataset.first["label"] = ""
    return dataset.first["image"]


@breaks("class-not-in-train")
def class_with_test_images_only(dataset: EditableDataset) -> str:
    label = dataset.first["label"]
    for row in dataset.rows:
        if row["label"] == label and row["split"] == "train":
            row["split"] = "test"
    return "manifest.csv"


@breaks("class-not-in-train")
def class_without_images(dataset: EditableDataset) -> str:
    classes = sorted({row["label"] for row in dataset.rows})
    dataset.update_toml(classes=[*classes, "unseen"])
    return "manifest.csv"


@breaks("class-not-in-split")
def class_without_validation_images(dataset: EditableDataset) -> str:
    dataset.first_row_of("val")["split"] = "train"
    return "manifest.csv"


@breaks("class-small", "class-not-in-split")
def class_of_two_images(dataset: EditableDataset) -> str:
    label = dataset.first["label"]
    for row in [row for row in dataset.rows if row["label"] == label][:-2]:
        row["label"] = "cultivar_02"
    dataset.rows[5]["split"] = "train"
    return "manifest.csv"


@breaks("passed-over")
def photos_in_a_format_that_is_not_read(dataset: EditableDataset) -> str:
    (dataset.folder / "images/new.avif").touch()
    return "*.avif"


@breaks("class-name")
def class_named_like_a_folder_of_masks(dataset: EditableDataset) -> str:
    label = dataset.first["label"]
    for row in [row for row in dataset.rows if row["label"] == label]:
        row["label"] = "Masks"
    dataset.update_toml(classes=sorted({row["label"] for row in dataset.rows}))
    return "dataset.toml"


@breaks("split-empty")
def no_validation_images(dataset: EditableDataset) -> str:
    for row in dataset.rows:
        row["split"] = row["split"].replace("val", "train")
    return "manifest.csv"


# names


@breaks("name-collision")
def file_names_that_differ_in_case(dataset: EditableDataset) -> str:
    dataset.rename(dataset.rows[0], "image", "leaf.jpg")
    dataset.rename(dataset.rows[1], "image", "Leaf.JPG")
    return dataset.rows[1]["image"]


@breaks("name-collision")
def file_names_that_differ_in_unicode_normalization(dataset: EditableDataset) -> str:
    dataset.rename(dataset.rows[0], "image", unicodedata.normalize("NFC", "kaffeeblätter.jpg"))
    dataset.rename(dataset.rows[1], "image", unicodedata.normalize("NFD", "kaffeeblätter.jpg"))
    return dataset.rows[1]["image"]


@breaks("name-collision", "class-not-in-split")
def classes_that_differ_in_case(dataset: EditableDataset) -> str:
    for row in dataset.rows[::2]:
        row["label"] = row["label"].replace("cultivar_03", "Cultivar_03")
    dataset.update_toml(classes=sorted({row["label"] for row in dataset.rows}))
    return "dataset.toml"


@breaks("unlisted-file")
def image_without_a_row(dataset: EditableDataset) -> str:
    shutil.copy(dataset.image_path(dataset.first), dataset.folder / "images" / "forgotten.jpg")
    return "images/forgotten.jpg"

"""Archives, names and folders of macOS, Windows and other machines are read as they are meant, or named."""

import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from field_inputs import IMPORTS, Command, count_of, rows_of, write_photo, write_vein

from mnsa.data.manifest import read_manifest

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Blätter") for form in ("NFC", "NFD"))


class RawName(zipfile.ZipInfo):
    """A member whose name is written in an encoding, without the flag that says UTF-8."""

    encoding = "utf-8"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's name
        return self.filename.encode(self.encoding), self.flag_bits & ~0x800


def write_archive(folder: Path, rename: Callable[[str], str], encoding: str = "utf-8") -> Path:
    for number in range(4):
        write_photo(folder / "in" / "ab"[number % 2] / f"{number}.png", number)
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for path in sorted((folder / "in").rglob("*.png")):
            member = RawName()
            member.encoding = encoding
            member.filename = rename(f"photos/{path.relative_to(folder / 'in').as_posix()}")
            archive.writestr(member, path.read_bytes())
    return folder / "x.zip"


def test_back_slashes_of_an_archive_are_folders(mnsa: Command, tmp_path: Path) -> None:
    archive = write_archive(tmp_path, lambda name: name.replace("/", "\\"))
    assert mnsa("import", "zip", archive, "--out", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out").classes == ("a", "b")


@pytest.mark.parametrize("evil", ["..\\", "..\\..\\", "C:\\"])
def test_back_slashes_lead_nowhere_else(refused: Callable[..., str], tmp_path: Path, evil: str) -> None:
    archive = write_archive(tmp_path, lambda name: evil + name.replace("/", "\\"))
    assert "leads out of the folder" in refused("import", "zip", archive, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED, "叶子", "листья"])
def test_names_of_macos_archives_are_utf8(mnsa: Command, tmp_path: Path, name: str) -> None:
    archive = write_archive(tmp_path, lambda text: text.replace("/a/", f"/{name}/"))
    ending = mnsa("import", "zip", archive, "--out", tmp_path / "out")
    assert ending.code == 0, ending
    assert read_manifest(tmp_path / "out").classes == tuple(sorted([unicodedata.normalize("NFC", name), "b"]))
    assert "encoding" not in ending.out


@pytest.mark.parametrize(("name", "encoding"), [("Blätter", "cp437"), ("Blätter", "cp1252"), ("叶子", "gbk")])
def test_names_in_an_unknown_encoding_are_said(mnsa: Command, tmp_path: Path, name: str, encoding: str) -> None:
    archive = write_archive(tmp_path, lambda text: text.replace("/a/", f"/{name}/"), encoding)
    ending = mnsa("import", "zip", archive, "--out", tmp_path / "out")
    assert ending.code == 0, ending
    assert "2 names are in an unknown encoding" in ending.out
    assert (COMPOSED in read_manifest(tmp_path / "out").classes) == (encoding == "cp437")


@pytest.mark.parametrize("verb", ["masks", "folders"])
def test_masks_belong_to_images_in_the_other_unicode_form(mnsa: Command, tmp_path: Path, verb: str) -> None:
    for number in range(3):
        write_photo(tmp_path / f"in/images/{DECOMPOSED}{number}.png", number)
        write_vein(tmp_path / f"in/masks/{COMPOSED}{number}.png")
    ending = mnsa(*IMPORTS[verb].arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    manifest = read_manifest(tmp_path / "out")
    assert len(manifest.rows) == 3
    assert all(manifest.mask_path(row).is_file() for row in manifest.rows)


@pytest.mark.parametrize("verb", ["folders", "csv"])
@pytest.mark.parametrize("other", [DECOMPOSED, f"{COMPOSED} ", f" {DECOMPOSED}"])
def test_spellings_of_a_class_are_one_class(mnsa: Command, tmp_path: Path, verb: str, other: str) -> None:
    names = [COMPOSED, other, "b"]
    for number in range(6):
        write_photo(tmp_path / "in" / names[number % 3] / f"{number}.png", number)
    lines = [f"{names[number % 3]}/{number}.png,{names[number % 3]}\n" for number in (0, 3, 1, 4, 2, 5)]
    (tmp_path / "in/table.csv").write_text("image,label\n" + "".join(lines), encoding="utf-8")
    folders = [path.name for path in (tmp_path / "in").iterdir() if path.is_dir()]
    assert len(folders) == 3
    arguments = IMPORTS[verb].arguments(tmp_path / "in", tmp_path / "out")
    ending = mnsa(*arguments)
    assert ending.code == 0, ending
    assert read_manifest(tmp_path / "out").classes == (COMPOSED, "b")
    assert all(
        read_manifest(tmp_path / "out").image_path(row).is_file() for row in read_manifest(tmp_path / "out").rows
    )


def test_classes_that_differ_in_case_stay_and_are_said(mnsa: Command, tmp_path: Path) -> None:
    for number, name in enumerate(["Rust", "rust", "001", "1"]):
        write_photo(tmp_path / "in" / name / f"{number}.png", number)
    ending = mnsa(*IMPORTS["folders"].arguments(tmp_path / "in", tmp_path / "out"))
    assert "'Rust' and 'rust' differ only in case" in ending.out
    assert set(read_manifest(tmp_path / "out").classes) == {"Rust", "rust", "001", "1"}


@pytest.mark.parametrize("cell", ["NaN", "n/a", "<NA>", "null"])
def test_a_class_named_like_an_empty_cell_is_said(mnsa: Command, tmp_path: Path, cell: str) -> None:
    make, _, arguments, _ = IMPORTS["csv"]
    make(tmp_path / "in")
    table = tmp_path / "in/table.csv"
    table.write_text(table.read_text().replace("a/0.png,a", f"a/0.png,{cell}"))
    assert f"names of empty cells: {cell}" in mnsa(*arguments(tmp_path / "in", tmp_path / "out")).out
    assert "class-name" in mnsa("check", tmp_path / "out").out


@pytest.mark.parametrize("write", ["\\", "absolute", "NFD"])
def test_paths_of_a_table_are_read_as_they_are_meant(mnsa: Command, tmp_path: Path, write: str) -> None:
    make, _, arguments, count = IMPORTS["csv"]
    make(tmp_path / "in")
    (tmp_path / "in/a").rename(tmp_path / "in" / COMPOSED)
    text = (tmp_path / "in/table.csv").read_text()
    for name in "ab":
        folder = COMPOSED if name == "a" else "b"
        place = {"\\": f"{folder}\\", "absolute": f"{tmp_path}/in/{folder}/", "NFD": f"{folder}/"}[write]
        text = text.replace(f"{name}/", place)
    text = unicodedata.normalize("NFD", text) if write == "NFD" else text
    (tmp_path / "in/table.csv").write_text(text, encoding="utf-8")
    assert mnsa(*arguments(tmp_path / "in", tmp_path / "out")).code == 0
    manifest = read_manifest(tmp_path / "out")
    assert [manifest.image_path(row).is_file() for row in manifest.rows] == [True] * count


def test_files_of_a_table_that_do_not_exist_are_said(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["csv"]
    make(tmp_path / "in")
    (tmp_path / "in/a/0.png").unlink()
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert "1 files of" in ending.out
    assert "do not exist, such as a/0.png" in ending.out
    assert count_of(tmp_path / "out") == count


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (b"<html>404</html>", "is not an image in a supported format"),
        (b"II*\0" + bytes(40), "is a TIFF that is damaged, or whose pixels are not read"),
    ],
)
def test_files_that_are_no_images_are_named_on_the_screen(
    mnsa: Command, tmp_path: Path, content: bytes, reason: str
) -> None:
    write_vein(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes(content)
    ending = mnsa("traits", tmp_path / "in", "--out", tmp_path / "out.csv")
    assert ending.code == 3
    assert f"b.png {reason}" in ending.out
    assert reason in rows_of(tmp_path / "out.csv")[1]["error"]


def test_a_link_to_itself_is_a_broken_link(mnsa: Command, tmp_path: Path) -> None:
    write_vein(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").symlink_to(tmp_path / "in/b.png")
    ending = mnsa("traits", tmp_path / "in", "--out", tmp_path / "out.csv")
    assert ending.code == 3
    assert "b.png is a broken link" in ending.out


@pytest.mark.parametrize(
    ("verb", "mask"),
    [(verb, mask) for verb in ("masks", "folders") for mask in ("IMG_{}.jpg.png", "IMG_{}.png")]
    + [("masks", "img_{}.png")],  # `folders` refuses the images by name
)
def test_masks_are_found_behind_a_second_suffix_and_in_another_case(
    mnsa: Command, tmp_path: Path, verb: str, mask: str
) -> None:
    for number in range(3):
        write_photo(tmp_path / f"in/images/IMG_{number}.jpg", number)
        write_vein(tmp_path / "in/masks" / mask.format(number))
    ending = mnsa(*IMPORTS[verb].arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert [Path(row.mask).name for row in read_manifest(tmp_path / "out").rows] == [mask.format(n) for n in range(3)]


def test_a_mask_in_another_case_that_fits_two_images_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    for number, name in enumerate(["A.png", "a.png", "b.png"]):
        write_photo(tmp_path / "in/images" / name, number)
    for name in ["A.png", "b.png"]:
        write_vein(tmp_path / "in/masks" / name)
    (tmp_path / "in/masks/B.png").write_bytes((tmp_path / "in/masks/b.png").read_bytes())
    message = refused(*IMPORTS["masks"].arguments(tmp_path / "in", tmp_path / "out"))
    assert "masks/B.png is the mask of no image" in message


def test_labels_of_nnunet_in_another_unicode_form_and_of_version_1_are_read(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["nnunet"]
    make(tmp_path / "in")
    (tmp_path / "in/imagesTr/leaf1_0000.png").rename(tmp_path / f"in/imagesTr/{DECOMPOSED}_0000.png")
    (tmp_path / "in/labelsTr/leaf1.png").rename(tmp_path / f"in/labelsTr/{COMPOSED}.png")
    about = tmp_path / "in/dataset.json"
    about.write_text(about.read_text().replace('"background": 0, "vein": 1', '"0": "background", "1": "vein"'))
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert count_of(tmp_path / "out") == count
    assert read_manifest(tmp_path / "out").mask_classes == ("vein",)

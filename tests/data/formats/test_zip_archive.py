"""Zip files: valid ones become data sets, malicious ones are rejected and leave nothing."""

import io
import stat
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from archives import FOUR_IMAGES, encode_mask, encode_photo, make_members, patch_directory, special_member, write_zip
from mnsa.data.formats.zip_archive import ZipLimits, import_zip
from mnsa.data.manifest import read_manifest
from mnsa.data.validation.validate import find_errors
from mnsa.errors import DataError


def test_class_folders_become_a_data_set(tmp_path: Path) -> None:
    manifest = import_zip(write_zip(tmp_path / "leaves.zip", FOUR_IMAGES), tmp_path / "set")
    assert manifest == read_manifest(tmp_path / "set")
    assert (manifest.name, manifest.root, manifest.classes) == ("set", (tmp_path / "set").resolve(), ("a", "b"))
    assert {row.image: row.label for row in manifest.rows} == {name: name[0] for name in FOUR_IMAGES}
    assert find_errors(manifest) == []
    assert (tmp_path / "set" / "a" / "1.png").read_bytes() == FOUR_IMAGES["a/1.png"]


@pytest.mark.parametrize("top", ["leaves", "my leaves (1)"])
def test_a_top_folder_around_all_images_is_removed(tmp_path: Path, top: str) -> None:
    wrapped = {f"{top}/{name}": content for name, content in FOUR_IMAGES.items()}
    manifest = import_zip(write_zip(tmp_path / "leaves.zip", wrapped), tmp_path / "set")
    assert sorted(row.image for row in manifest.rows) == sorted(FOUR_IMAGES)


def test_splits_and_masks_are_imported(tmp_path: Path) -> None:
    members = make_members("train/a/1.png", "train/b/2.png", "val/a/3.png")
    members |= make_members("masks/train/a/1.png", "masks/val/a/3.png", content=encode_mask)
    manifest = import_zip(write_zip(tmp_path / "x.zip", members), tmp_path / "set", mask_classes=["vein"])
    assert [(row.image, row.mask, row.split) for row in manifest.rows] == [
        ("train/a/1.png", "masks/train/a/1.png", "train"),
        ("train/b/2.png", "", "train"),
        ("val/a/3.png", "masks/val/a/3.png", "val"),
    ]


def test_a_single_split_folder_at_the_top_is_kept(tmp_path: Path) -> None:
    manifest = import_zip(
        write_zip(tmp_path / "x.zip", make_members("train/a/1.png", "train/b/2.png")), tmp_path / "set"
    )
    assert manifest.classes == ("a", "b")


def test_only_images_are_unpacked(tmp_path: Path) -> None:
    others = {"README.txt": b"x", "manifest.csv": b"image\n/etc/passwd\n", "a/run.sh": b"x", "a/more.zip": b"x"}
    hidden = make_members("__MACOSX/a/1.png", "a/._1.png")
    import_zip(write_zip(tmp_path / "x.zip", {**FOUR_IMAGES, **others, **hidden}), tmp_path / "set")
    unpacked = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.*")}
    assert unpacked == {*FOUR_IMAGES, "manifest.csv", "dataset.toml"}
    assert len(read_manifest(tmp_path / "set").rows) == 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../1.png", "leads out"),
        ("a/../../1.png", "leads out"),
        ("a/../1.png", "leads out"),
        ("/etc/cron.d/1.png", "leads out"),
        ("//server/1.png", "leads out"),
        ("..\\1.png", "leads out"),
        ("a\\1.png", "leads out"),
        ("C:/1.png", "leads out"),
        ("C:1.png", "leads out"),
        ("./1.png", "no plain path"),
        ("a//1.png", "no plain path"),
        ("a/\n1.png", "no plain path"),
        ("a/\x1b[2J1.png", "no plain path"),
        ("x/" * 11 + "1.png", "more than 10 levels"),
        ("a/" + "x" * 252 + ".png", "more than 255 bytes"),
        ("A/1.png", "collides with 'a'"),
        ("a/1.PNG", "collides with 'a/1.png'"),
        ("a/1.png/2.png", "collides with another file or folder"),
        ("b", "collides with another file or folder"),
    ],
)
def test_an_unsafe_name_is_rejected(tmp_path: Path, name: str, reason: str) -> None:
    assert_rejected(tmp_path, write_zip(tmp_path / "x.zip", {**FOUR_IMAGES, name: encode_photo()}), reason)


def test_names_that_differ_only_in_case_are_rejected(tmp_path: Path) -> None:
    assert_rejected(
        tmp_path, write_zip(tmp_path / "x.zip", make_members("a/\u00e4.png", "a/a\u0308.png")), "collides with"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_rejected(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", FOUR_IMAGES)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("a/1.png", encode_photo())
    assert_rejected(tmp_path, archive, "collides with another file")


def test_a_name_with_a_nul_is_rejected(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {**FOUR_IMAGES, "a/5.pngX.sh": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"5.pngX.sh", b"5.png\0.sh"))
    assert_rejected(tmp_path, archive, "no plain path")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_rejected(tmp_path: Path, mode: int) -> None:
    archive = write_zip(tmp_path / "x.zip", FOUR_IMAGES)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(special_member("a/link.png", mode | 0o777), b"/etc/passwd")
    assert_rejected(tmp_path, archive, "is a link or a device")


def test_a_link_to_another_folder_is_rejected_before_anything_is_written(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(special_member("a", stat.S_IFLNK | 0o777), str(tmp_path))
        opened.writestr("a/1.png", encode_photo())
    assert_rejected(tmp_path, archive, "is a link or a device")
    assert not (tmp_path / "1.png").exists()


def test_a_member_with_a_large_compression_ratio_is_rejected(tmp_path: Path) -> None:
    assert_rejected(
        tmp_path,
        write_zip(tmp_path / "x.zip", {**FOUR_IMAGES, "a/bomb.bmp": bytes(3 << 20)}),
        "grows more than 200 times",
    )


def test_a_small_member_may_have_any_compression_ratio(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("L", (800, 800)).save(content, "BMP")
    members = {**FOUR_IMAGES, "masks/a/1.bmp": content.getvalue()}
    assert import_zip(write_zip(tmp_path / "x.zip", members), tmp_path / "set", mask_classes=["vein"]).rows[0].mask


def test_more_bytes_than_the_limit_are_rejected(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", FOUR_IMAGES)
    total = sum(map(len, FOUR_IMAGES.values()))
    assert_rejected(tmp_path, archive, f"would become {total:,} bytes", ZipLimits(total_bytes=total - 1))
    assert import_zip(archive, tmp_path / "set", limits=ZipLimits(total_bytes=total, files=4))


def test_more_members_than_the_limit_are_rejected(tmp_path: Path) -> None:
    assert_rejected(
        tmp_path, write_zip(tmp_path / "x.zip", FOUR_IMAGES), "too many members; at most 3", ZipLimits(files=3)
    )


@pytest.mark.parametrize("claim", [10, 5000])
def test_a_member_with_a_wrong_size_is_rejected(tmp_path: Path, claim: int) -> None:
    archive = patch_directory(write_zip(tmp_path / "x.zip", FOUR_IMAGES), 24, claim)
    assert_rejected(tmp_path, archive, r"can't be unpacked|shorter than its size says")


def test_members_that_share_their_bytes_are_rejected(tmp_path: Path) -> None:
    archive = patch_directory(
        write_zip(tmp_path / "x.zip", FOUR_IMAGES), 42, 0
    )  # the last member's bytes are the first's
    assert_rejected(tmp_path, archive, "can't be unpacked")


def test_an_encrypted_member_is_rejected(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", FOUR_IMAGES)
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert_rejected(tmp_path, archive, "is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unsupported_compression_is_rejected(tmp_path: Path, method: int) -> None:
    assert_rejected(tmp_path, write_zip(tmp_path / "x.zip", FOUR_IMAGES, method), "unsupported compression")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "nothing", "no images"])
def test_a_broken_archive_is_rejected(tmp_path: Path, damage: str) -> None:
    whole = write_zip(tmp_path / "x.zip", FOUR_IMAGES).read_bytes()
    start = whole.index(b"PK\x03\x04") + 45
    content = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:start] + bytes(byte ^ 255 for byte in whole[start : start + 40]) + whole[start + 40 :],
        "text": b"not a zip file",
        "nothing": b"",
        "no images": write_zip(tmp_path / "y.zip", {"a.txt": b"x"}).read_bytes(),
    }
    (tmp_path / "x.zip").write_bytes(content[damage])
    assert_rejected(tmp_path, tmp_path / "x.zip", "can't be unpacked|holds no images")


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    assert_rejected(tmp_path, tmp_path / "gone.zip", r"There is no file .*gone\.zip")


def test_a_broken_image_is_unpacked_and_found_by_validation(tmp_path: Path) -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + zlib.compress(bytes(100))
    manifest = import_zip(write_zip(tmp_path / "x.zip", {**FOUR_IMAGES, "a/9.png": bomb}), tmp_path / "set")
    assert [finding.file for finding in find_errors(manifest)] == ["a/9.png"]


def assert_rejected(tmp_path: Path, archive: Path, reason: str, limits: ZipLimits | None = None) -> None:
    """Expect a refusal that names the archive, and not a file more than before."""
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match=reason) as caught:
        import_zip(archive, tmp_path / "set", limits=limits or ZipLimits())
    assert str(archive) in str(caught.value)
    assert set(tmp_path.iterdir()) == before

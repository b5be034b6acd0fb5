"""What is said of two files that hold one picture."""

import hashlib
from collections.abc import Iterable

import numpy as np

from mnsa.data.findings import Finding
from mnsa.data.rows import Row
from mnsa.data.validation.consistency import exact_duplicate_findings, near_duplicate_findings, shared_mask_findings
from mnsa.data.validation.inspect import ImageInfo, MaskInfo
from mnsa.data.validation.perceptual_hash import HASH_LENGTH


def picture(content: str, looks: int = 0) -> ImageInfo:
    vector = np.random.default_rng(looks).integers(-127, 128, HASH_LENGTH).astype(np.int8)
    return ImageInfo((64, 64), (64, 64), 1, hashlib.sha256(content.encode()).digest(), vector.tobytes())


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.file) for finding in findings]


def test_a_leak_is_worse_than_a_second_label_and_that_than_a_second_row() -> None:
    rows = [
        Row("a", label="x", split="train"),
        Row("b", label="y", split="test"),
        Row("c", label="y", split="train"),
        Row("d", label="x", split="train"),
        Row("e"),
    ]
    assert told(exact_duplicate_findings(rows, [picture("same")] * 5)) == [
        ("duplicate-across-splits", "b"),
        ("duplicate-across-splits", "c"),
        ("duplicate-across-splits", "d"),
        ("duplicate", "e"),
    ]
    assert told(exact_duplicate_findings(rows[2:], [picture("same")] * 3)) == [
        ("duplicate-across-labels", "d"),
        ("duplicate", "e"),
    ]


def test_files_that_cannot_be_read_are_no_copies_of_each_other() -> None:
    assert told(exact_duplicate_findings([Row("a"), Row("b")], [None, None])) == []
    assert told(near_duplicate_findings([Row("a"), Row("b")], [None, None])) == []


def test_each_like_picture_is_reported_once_with_the_one_it_is_most_like() -> None:
    rows = [Row("a", label="x", split="train"), Row("b", label="x", split="train"), Row("c", label="y", split="test")]
    findings = list(near_duplicate_findings(rows, [picture("1", 7), picture("2", 7), picture("3", 7)]))
    assert told(findings) == [("near-duplicate-across-splits", "c"), ("near-duplicate-across-labels", "c")]
    assert "(test) looks like a (train), cosine 1.00" in findings[0].reason


def test_like_pictures_of_one_split_and_label_or_of_none_are_fine() -> None:
    alike = [picture("1", 7), picture("2", 7)]
    assert told(near_duplicate_findings([Row("a", label="x", split="train")] * 2, alike)) == []
    assert told(near_duplicate_findings([Row("a", label="x", split="train"), Row("b")], alike)) == []


def test_the_same_file_is_not_reported_as_a_like_one_too() -> None:
    rows = [Row("a", split="train"), Row("b", split="test")]
    assert told(near_duplicate_findings(rows, [picture("same", 7)] * 2)) == []


def test_a_mask_may_be_that_of_a_copy_but_not_of_another_picture() -> None:
    rows = [Row("a", "a.png"), Row("b", "b.png"), Row("c", "c.png")]
    pictures = [picture("1"), picture("1"), picture("2")]
    veins = MaskInfo((64, 64), 1, b"same", (4000, 96))
    assert told(shared_mask_findings(rows, pictures, [veins] * 3)) == [("mask-shared", "c.png")]
    empty = MaskInfo((64, 64), 1, b"same", (4096, 0))
    assert told(shared_mask_findings(rows, pictures, [empty] * 3)) == []

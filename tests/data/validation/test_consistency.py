"""Findings about images and masks that occur more than once."""

import hashlib
from collections.abc import Iterable

import numpy as np

from mnsa.data.findings import Finding
from mnsa.data.rows import Row
from mnsa.data.validation.consistency import exact_duplicate_findings, near_duplicate_findings, shared_mask_findings
from mnsa.data.validation.inspect import ImageInfo, MaskInfo
from mnsa.data.validation.near_duplicates import HASH_LENGTH


def make_image(content: str, hash_seed: int = 0) -> ImageInfo:
    """An image with the digest of `content`; images with the same seed have the same perceptual hash."""
    values = np.random.default_rng(hash_seed).integers(-127, 128, HASH_LENGTH).astype(np.int8)
    return ImageInfo((64, 64), (64, 64), 1, hashlib.sha256(content.encode()).hexdigest(), values.tobytes())


def kinds_and_files(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.file) for finding in findings]


def test_a_copy_in_another_split_is_reported_before_another_label_and_before_a_plain_copy() -> None:
    rows = [
        Row("a", label="x", split="train"),
        Row("b", label="y", split="test"),
        Row("c", label="y", split="train"),
        Row("d", label="x", split="train"),
        Row("e"),
    ]
    assert kinds_and_files(exact_duplicate_findings(rows, [make_image("same")] * 5)) == [
        ("duplicate-across-splits", "b"),
        ("duplicate-across-splits", "c"),
        ("duplicate-across-splits", "d"),
        ("duplicate", "e"),
    ]
    assert kinds_and_files(exact_duplicate_findings(rows[2:], [make_image("same")] * 3)) == [
        ("duplicate-across-labels", "d"),
        ("duplicate", "e"),
    ]


def test_unreadable_files_are_not_duplicates_of_each_other() -> None:
    assert kinds_and_files(exact_duplicate_findings([Row("a"), Row("b")], [None, None])) == []
    assert kinds_and_files(near_duplicate_findings([Row("a"), Row("b")], [None, None])) == []


def test_a_similar_image_is_reported_once_with_the_most_similar_one() -> None:
    rows = [Row("a", label="x", split="train"), Row("b", label="x", split="train"), Row("c", label="y", split="test")]
    images = [make_image("1", 7), make_image("2", 7), make_image("3", 7)]
    findings = list(near_duplicate_findings(rows, images))
    assert kinds_and_files(findings) == [("near-duplicate-across-splits", "c"), ("near-duplicate-across-labels", "c")]
    assert "(test) looks like a (train), cosine 1.00" in findings[0].reason


def test_similar_images_with_the_same_or_no_split_and_label_are_not_reported() -> None:
    similar = [make_image("1", 7), make_image("2", 7)]
    row = Row("a", label="x", split="train")
    assert kinds_and_files(near_duplicate_findings([row, row], similar)) == []
    assert kinds_and_files(near_duplicate_findings([row, Row("b")], similar)) == []


def test_an_exact_duplicate_is_not_reported_as_a_near_duplicate() -> None:
    rows = [Row("a", split="train"), Row("b", split="test")]
    assert kinds_and_files(near_duplicate_findings(rows, [make_image("same", 7)] * 2)) == []


def test_copies_of_an_image_may_share_a_mask_and_different_images_may_not() -> None:
    rows = [Row("a", "a.png"), Row("b", "b.png"), Row("c", "c.png")]
    images = [make_image("1"), make_image("1"), make_image("2")]
    mask = MaskInfo((64, 64), 1, "same", (4000, 96))
    assert kinds_and_files(shared_mask_findings(rows, images, [mask] * 3)) == [("mask-shared", "c.png")]
    empty = MaskInfo((64, 64), 1, "same", (4096, 0))
    assert kinds_and_files(shared_mask_findings(rows, images, [empty] * 3)) == []

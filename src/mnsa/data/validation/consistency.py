"""The same picture twice: in two splits it is a leak, under two labels one of them is wrong."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from mnsa.data.check.alike import like_pairs
from mnsa.data.check.files import Picture, Truth
from mnsa.data.faults import Fault
from mnsa.data.rows import Row

_LEAK = "Keep it in one split: give both the same group, or drop one"
_LABEL = "Look at both and correct one label"
_MASK = "Look at both; one of the masks may be a copy made by mistake"


def same_files(rows: Sequence[Row], pictures: Sequence[Picture | None]) -> Iterator[Fault]:
    """Report every image that has the bytes of an earlier one, once."""
    twins: dict[bytes, dict[tuple[str, str], Row]] = defaultdict(dict)  # of each split and label the first
    for row, picture in zip(rows, pictures, strict=True):
        if picture:
            if earlier := twins[picture.digest]:
                yield _same_file(row, list(earlier.values()))
            earlier.setdefault((row.split, row.label), row)


def _same_file(row: Row, twins: Sequence[Row]) -> Fault:
    for twin in twins:
        if _differ(row.split, twin.split):
            reason = f"({row.split}) is the same file as {twin.image} ({twin.split})"
            return Fault("duplicate-across-splits", row.image, reason, _LEAK)
    for twin in twins:
        if _differ(row.label, twin.label):
            reason = f"({row.label}) is the same file as {twin.image} ({twin.label})"
            return Fault("duplicate-across-labels", row.image, reason, _LABEL)
    return Fault("duplicate", row.image, f"is the same file as {twins[0].image}", "Drop one: it counts twice")


def like_pictures(rows: Sequence[Row], pictures: Sequence[Picture | None]) -> Iterator[Fault]:
    """Report every image that looks like another of another split or label, once, with the one it is most like."""
    together = zip(rows, pictures, strict=True)
    different = {(p.digest, row.split, row.label): (row, p) for row, p in together if p}
    kept = list(different.values())  # of the same file in one split and label, one speaks for all
    if not kept:
        return
    pairs = like_pairs(np.frombuffer(b"".join(p.fingerprint for _, p in kept), np.int8).reshape(len(kept), -1))
    by_likeness = np.argsort(-pairs.cosine, kind="stable")
    told: set[tuple[str, int]] = set()
    for index in by_likeness:
        one, other = int(pairs.first[index]), int(pairs.second[index])
        (row, picture), (twin, its_picture) = kept[other], kept[one]
        if picture.digest == its_picture.digest:
            continue  # reported as the same file
        likeness = f"cosine {pairs.cosine[index]:.2f}"
        if _differ(row.split, twin.split) and ("split", other) not in told:
            told.add(("split", other))
            reason = f"({row.split}) looks like {twin.image} ({twin.split}), {likeness}"
            yield Fault("near-duplicate-across-splits", row.image, reason, _LEAK)
        if _differ(row.label, twin.label) and ("label", other) not in told:
            told.add(("label", other))
            reason = f"({row.label}) looks like {twin.image} ({twin.label}), {likeness}"
            yield Fault("near-duplicate-across-labels", row.image, reason, _LABEL)


def shared_masks(
    rows: Sequence[Row], pictures: Sequence[Picture | None], truths: Sequence[Truth | None]
) -> Iterator[Fault]:
    """Report a mask that has the bytes of another picture's; masks of one class alone are all alike and don't count."""
    first: dict[bytes, tuple[Row, Picture]] = {}
    for row, picture, truth in zip(rows, pictures, truths, strict=True):
        if picture and truth and sum(count > 0 for count in truth.pixels) > 1:
            owner, its_picture = first.setdefault(truth.digest, (row, picture))
            if its_picture.digest != picture.digest:
                reason = f"of {row.image} is the same as {owner.mask} of {owner.image}"
                yield Fault("mask-shared", row.mask, reason, _MASK)


def _differ(one: str, other: str) -> bool:
    """Tell whether two splits or labels are known and not the same."""
    return bool(one and other and one != other)

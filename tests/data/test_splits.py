from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnsa.data.manifest import Row
from mnsa.data.splits import carve, carve_validation
from mnsa.errors import DataError


def rows_of(sizes: dict[str, int], group_size: int = 0) -> list[Row]:
    return [
        Row(f"{label}{n}.png", label=label, split="train", group=f"{label}/{n // group_size}" if group_size else "")
        for label, size in sizes.items()
        for n in range(size)
    ]


many_rows = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["train", "test", ""]), st.sampled_from("   pqr")),
    max_size=40,
).map(lambda drawn: [Row(f"{n}.png", "", label, split, f"{group}{split}".strip() if group != " " else "")
                     for n, (label, split, group) in enumerate(drawn)])  # fmt: skip
shares = st.floats(0.05, 0.95)


@given(many_rows, shares, st.integers(0, 99))
def test_rows_only_move_from_train_to_validation(rows: list[Row], share: float, seed: int) -> None:
    carved = carve_validation(rows, share=share, seed=seed)
    before, after = defaultdict(set), defaultdict(set)
    for old, new in zip(rows, carved, strict=True):
        assert old.image == new.image
        before[old.split].add(old.image)
        after[new.split].add(new.image)
    assert after["train"] | after["val"] == before["train"]
    assert not after["train"] & after["val"]
    assert all(after[split] == before[split] for split in ("test", ""))


@given(many_rows, shares, st.integers(0, 99))
def test_groups_stay_whole_and_classes_stay_in_train(rows: list[Row], share: float, seed: int) -> None:
    carved = carve_validation(rows, share=share, seed=seed)
    splits_of_group = defaultdict(set)
    for row in carved:
        splits_of_group[row.group].add(row.split)
    assert all(len(splits) == 1 for group, splits in splits_of_group.items() if group)
    assert {row.label for row in carved if row.split == "train"} == {row.label for row in rows if row.split == "train"}


@given(many_rows, shares, st.integers(0, 99))
def test_the_choice_depends_on_the_seed_and_not_on_the_order(rows: list[Row], share: float, seed: int) -> None:
    shuffled = Random(seed).sample(rows, len(rows))
    carved = {row.image: row.split for row in carve_validation(rows, share=share, seed=seed)}
    assert {row.image: row.split for row in carve_validation(shuffled, share=share, seed=seed)} == carved


def test_the_choice_is_the_same_on_every_machine() -> None:
    carved = carve_validation(rows_of({"a": 6, "b": 4}), share=0.3, seed=1)
    assert [row.image for row in carved if row.split == "val"] == ["a3.png", "a5.png", "b0.png"]


def test_another_seed_chooses_other_rows() -> None:
    rows = rows_of({"a": 30, "b": 30})
    assert carve_validation(rows, share=0.2, seed=1) != carve_validation(rows, share=0.2, seed=2)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"a": 50, "b": 20, "c": 10}, {"a": 10, "b": 4, "c": 2}),
        ({"a": 100, "single": 1}, {"a": 20}),
        ({"a": 3, "b": 2}, {"a": 1}),
    ],
)
def test_every_class_gives_its_share(sizes: dict[str, int], expected: dict[str, int]) -> None:
    carved = carve_validation(rows_of(sizes), share=0.2, seed=3)
    assert Counter(row.label for row in carved if row.split == "val") == expected


def test_two_hundred_classes_of_four_images_give_a_fifth() -> None:
    carved = carve_validation(rows_of({f"c{n:03}": 4 for n in range(200)}), share=0.2, seed=1)
    taken = Counter(row.label for row in carved if row.split == "val")
    assert taken.total() == 160
    assert set(taken.values()) == {1}


def test_groups_larger_than_the_quota_still_give_one() -> None:
    carved = carve_validation(rows_of({"a": 20}, group_size=10), share=0.1, seed=1)
    assert Counter(row.split for row in carved) == {"train": 10, "val": 10}


def test_groups_bring_about_the_share() -> None:
    carved = carve_validation(rows_of({"a": 60, "b": 60}, group_size=3), share=0.2, seed=5)
    assert Counter(row.label for row in carved if row.split == "val") == {"a": 12, "b": 12}


def test_a_single_group_can_not_be_divided() -> None:
    rows = rows_of({"a": 5}, group_size=5)
    assert carve_validation(rows, share=0.5, seed=1) == tuple(rows)


def test_test_rows_are_carved_the_same_way() -> None:
    carved = carve(rows_of({"a": 10}), source="train", target="test", share=0.3, seed=1)
    assert Counter(row.split for row in carved) == {"train": 7, "test": 3}


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="expected a number between 0 and 1"):
        carve_validation(rows_of({"a": 4}), share=share, seed=1)

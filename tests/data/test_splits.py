"""Splitting rows: fractions, folds and few images per class; stratified, groups whole, the same on every machine."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnsa.data.findings import raise_finding
from mnsa.data.rows import Row, validate_rows
from mnsa.data.splits import SplitPlan, hold_out, hold_out_validation, split_rows
from mnsa.errors import DataError

FRACTIONS = st.floats(0.05, 0.95)
SEEDS = st.integers(0, 99)


def make_rows(sizes: dict[str, int], group_size: int = 0, split: str = "train") -> list[Row]:
    """Rows a00, a01, ... of each class; with a group size, groups a/0, a/1, ... of so many rows."""
    return [
        Row(f"{label}{n:03}", label=label, split=split, group=f"{label}/{n // group_size}" if group_size else "")
        for label, size in sizes.items()
        for n in range(size)
    ]


def row_lists(labels: Sequence[str], splits: Sequence[str], groups: str, min_size: int = 0) -> st.SearchStrategy[Any]:
    """Up to 40 rows with labels, splits and groups drawn at random; a space is no group; no group is in two splits."""
    drawn = st.tuples(st.sampled_from(labels), st.sampled_from(splits), st.sampled_from(groups))

    def to_rows(cells: list[tuple[str, str, str]]) -> list[Row]:
        return [
            Row(f"{n:02}", label=label, split=split, group="" if group == " " else f"{group}{split}")
            for n, (label, split, group) in enumerate(cells)
        ]

    return st.lists(drawn, min_size=min_size, max_size=40).map(to_rows)


UNLABELED_AND_LABELED = row_lists(["", "a", "b", "c"], ["train", "test", ""], "   pqr")
LABELED = row_lists("aabbc", ["train", "val", "test", ""], "    pqrstuv", min_size=1)

PLANS = st.one_of(
    st.builds(SplitPlan, val_fraction=st.floats(0.05, 0.4), test_fraction=st.none() | st.floats(0.05, 0.4)),
    st.builds(SplitPlan, num_folds=st.just(3), fold=st.integers(0, 2), test_fraction=st.none() | st.floats(0.05, 0.4)),
    st.builds(SplitPlan, train_per_class=st.integers(1, 3), val_fraction=st.none() | st.floats(0.05, 0.4)),
)


def count_splits(rows: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(row.split for row in rows))


def labels_in(rows: Sequence[Row], split: str) -> Counter[str]:
    return Counter(row.label for row in rows if row.split == split)


def images_in(rows: Sequence[Row], split: str) -> list[str]:
    return [row.image for row in rows if row.split == split]


# hold_out


@given(UNLABELED_AND_LABELED, FRACTIONS, SEEDS)
def test_hold_out_only_moves_rows_from_train_to_val(rows: list[Row], fraction: float, seed: int) -> None:
    result = hold_out_validation(rows, fraction=fraction, seed=seed)
    assert [row.image for row in result] == [row.image for row in rows]
    for old, new in zip(rows, result, strict=True):
        assert new.split == old.split or (old.split, new.split) == ("train", "val")


@given(UNLABELED_AND_LABELED, FRACTIONS, SEEDS)
def test_hold_out_divides_no_group_and_leaves_every_class_in_train(rows: list[Row], fraction: float, seed: int) -> None:
    result = hold_out_validation(rows, fraction=fraction, seed=seed)
    splits_of_group = defaultdict(set)
    for row in result:
        splits_of_group[row.group].add(row.split)
    assert all(len(splits) == 1 for group, splits in splits_of_group.items() if group)
    assert labels_in(result, "train").keys() == labels_in(rows, "train").keys()


@given(UNLABELED_AND_LABELED, FRACTIONS, SEEDS)
def test_hold_out_depends_on_the_seed_and_not_on_the_order(rows: list[Row], fraction: float, seed: int) -> None:
    shuffled = Random(seed).sample(rows, len(rows))
    result = {row.image: row.split for row in hold_out_validation(rows, fraction=fraction, seed=seed)}
    assert {row.image: row.split for row in hold_out_validation(shuffled, fraction=fraction, seed=seed)} == result


def test_hold_out_is_the_same_on_every_machine() -> None:
    result = hold_out_validation(make_rows({"a": 6, "b": 4}), fraction=0.3, seed=1)
    assert images_in(result, "val") == ["a003", "a005", "b000"]


def test_another_seed_holds_out_other_rows() -> None:
    rows = make_rows({"a": 30, "b": 30})
    assert hold_out_validation(rows, fraction=0.2, seed=1) != hold_out_validation(rows, fraction=0.2, seed=2)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"a": 50, "b": 20, "c": 10}, {"a": 10, "b": 4, "c": 2}),
        ({"a": 100, "single": 1}, {"a": 20}),
        ({"a": 3, "b": 2}, {"a": 1}),
    ],
)
def test_hold_out_takes_the_fraction_of_every_class(sizes: dict[str, int], expected: dict[str, int]) -> None:
    assert labels_in(hold_out_validation(make_rows(sizes), fraction=0.2, seed=3), "val") == expected


def test_one_fifth_of_many_small_classes_is_one_fifth_of_all_rows() -> None:
    result = hold_out_validation(make_rows({f"c{n:03}": 4 for n in range(200)}), fraction=0.2, seed=1)
    held_out = labels_in(result, "val")
    assert held_out.total() == 160
    assert set(held_out.values()) == {1}


def test_one_group_is_held_out_when_all_groups_are_larger_than_the_fraction() -> None:
    result = hold_out_validation(make_rows({"a": 20}, group_size=10), fraction=0.1, seed=1)
    assert count_splits(result) == {"train": 10, "val": 10}


def test_groups_are_held_out_up_to_the_fraction() -> None:
    result = hold_out_validation(make_rows({"a": 60, "b": 60}, group_size=3), fraction=0.2, seed=5)
    assert labels_in(result, "val") == {"a": 12, "b": 12}


def test_a_single_group_stays_in_train() -> None:
    rows = make_rows({"a": 5}, group_size=5)
    assert hold_out_validation(rows, fraction=0.5, seed=1) == tuple(rows)


def test_hold_out_moves_rows_between_any_two_splits() -> None:
    result = hold_out(make_rows({"a": 10}), source="train", target="test", fraction=0.3, seed=1)
    assert count_splits(result) == {"train": 7, "test": 3}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="expected a number between 0 and 1"):
        hold_out_validation(make_rows({"a": 4}), fraction=fraction, seed=1)


# split_rows: every plan


def split_or_skip(rows: list[Row], plan: SplitPlan, seed: int) -> tuple[Row, ...]:
    """Split; skip the example if its rows can't be split."""
    try:
        return split_rows(rows, plan, seed=seed)[0]
    except DataError as error:
        assume("No row can be" not in str(error))
        raise


@given(LABELED, PLANS, st.integers(0, 9))
def test_no_group_is_in_two_splits_and_no_row_is_lost(rows: list[Row], plan: SplitPlan, seed: int) -> None:
    assigned = split_or_skip(rows, plan, seed)
    validate_rows(assigned, ["somewhere"] * len(assigned), "abc", (), raise_finding)
    assert [row.image for row in assigned] == [row.image for row in rows]
    splits_of_group = defaultdict(set)
    for row in assigned:
        splits_of_group[row.group].add(row.split)
    assert all(len(splits - {""}) <= 1 for group, splits in splits_of_group.items() if group)


@given(LABELED, PLANS.filter(lambda plan: plan.train_per_class is None), st.integers(0, 9))
def test_every_class_of_val_and_of_a_new_test_is_in_train(rows: list[Row], plan: SplitPlan, seed: int) -> None:
    assigned = split_or_skip(rows, plan, seed)
    in_train = labels_in(assigned, "train").keys()
    assert labels_in(assigned, "val").keys() <= in_train
    if plan.test_fraction is not None:
        assert labels_in(assigned, "test").keys() <= in_train


@given(LABELED, PLANS, st.integers(0, 9))
def test_a_split_does_not_depend_on_the_order_of_the_rows(rows: list[Row], plan: SplitPlan, seed: int) -> None:
    def split_of_image(some: list[Row]) -> object:
        try:
            return {row.image: row.split for row in split_rows(some, plan, seed=seed)[0]}
        except DataError as error:
            return str(error)

    assert split_of_image(rows) == split_of_image(Random(seed).sample(rows, len(rows)))


@given(LABELED, st.integers(0, 9))
def test_test_rows_stay_test_without_a_test_fraction(rows: list[Row], seed: int) -> None:
    for plan in (SplitPlan(train_per_class=1), SplitPlan(val_fraction=0.2), SplitPlan(num_folds=2, fold=1)):
        assigned = split_or_skip(rows, plan, seed)
        assert images_in(assigned, "test") == images_in(rows, "test")


# split_rows: fractions


def test_fractions_are_fractions_of_all_images() -> None:
    plan = SplitPlan(val_fraction=0.2, test_fraction=0.3)
    assigned, notes = split_rows(make_rows({"a": 60, "b": 40}), plan, seed=1)
    assert count_splits(assigned) == {"train": 50, "val": 20, "test": 30}
    assert labels_in(assigned, "val") == {"a": 12, "b": 8}
    assert labels_in(assigned, "test") == {"a": 18, "b": 12}
    assert notes == ()


def test_a_test_fraction_alone_gives_the_default_fraction_to_val() -> None:
    assigned, _ = split_rows(make_rows({"a": 50}), SplitPlan(test_fraction=0.2), seed=1)
    assert count_splits(assigned) == {"train": 30, "val": 10, "test": 10}


def test_without_a_test_fraction_val_is_a_fraction_of_the_rows_outside_of_test() -> None:
    rows = [*make_rows({"a": 50}), *make_rows({"b": 10}, split="test"), *make_rows({"c": 10}, split="")]
    assigned, _ = split_rows(rows, SplitPlan(val_fraction=0.5), seed=1)
    assert count_splits(assigned) == {"train": 30, "val": 30, "test": 10}


def test_unused_images_of_a_group_in_test_stay_unused() -> None:
    rows = [*make_rows({"a": 10}), Row("t", label="a", split="test", group="p"), Row("u", label="a", group="p")]
    assigned, notes = split_rows(rows, SplitPlan(val_fraction=0.2), seed=1)
    assert {row.image: row.split for row in assigned if row.group} == {"t": "test", "u": ""}
    assert notes == ("1 images are unused, because their group is in test.",)


# split_rows: folds


def test_every_image_is_in_val_in_one_fold_and_folds_are_stratified() -> None:
    rows = make_rows({"a": 23, "b": 11, "c": 5})
    folds = [split_rows(rows, SplitPlan(num_folds=5, fold=n), seed=4)[0] for n in range(5)]
    times_in_val = Counter(image for assigned in folds for image in images_in(assigned, "val"))
    assert times_in_val == dict.fromkeys((row.image for row in rows), 1)
    for label in "abc":
        sizes = [labels_in(assigned, "val")[label] for assigned in folds]
        assert max(sizes) - min(sizes) <= 1
    assert sorted(count_splits(assigned)["val"] for assigned in folds) == [7, 8, 8, 8, 8]


def test_folds_divide_no_group() -> None:
    rows = make_rows({"a": 24, "b": 12}, group_size=4)
    folds = [split_rows(rows, SplitPlan(num_folds=3, fold=n), seed=1)[0] for n in range(3)]
    assert [count_splits(assigned) for assigned in folds] == [{"train": 24, "val": 12}] * 3
    assert all(len({row.split for row in assigned if row.group == "a/2"}) == 1 for assigned in folds)


def test_all_folds_with_a_test_fraction_have_the_same_test_images() -> None:
    rows = make_rows({"a": 30})
    plans = [SplitPlan(num_folds=4, fold=n, test_fraction=0.2) for n in range(4)]
    in_test = [images_in(split_rows(rows, plan, seed=1)[0], "test") for plan in plans]
    assert len(in_test[0]) == 6
    assert in_test == [in_test[0]] * 4


def test_a_class_of_one_group_is_in_train_in_every_fold_and_in_the_notes() -> None:
    rows = [*make_rows({"a": 10, "single": 1}), *make_rows({"plant": 3}, group_size=3)]
    for fold in range(2):
        assigned, notes = split_rows(rows, SplitPlan(num_folds=2, fold=fold), seed=1)
        assert {row.split for row in assigned if row.label != "a"} == {"train"}
        assert notes == (
            "Class 'plant' is not in every split (3 images, 1 groups or single images): 3 in train; none in val.",
            "Class 'single' is not in every split (1 images, 1 groups or single images): 1 in train; none in val.",
        )


# split_rows: few images per class


def test_few_images_of_each_class_stay_in_train_and_the_others_become_unused() -> None:
    rows = [*make_rows({"a": 10, "b": 7, "c": 2}), *make_rows({"d": 4}, split="val")]
    assigned, notes = split_rows(rows, SplitPlan(train_per_class=3), seed=1)
    assert labels_in(assigned, "train") == {"a": 3, "b": 3, "c": 2}
    assert labels_in(assigned, "") == {"a": 7, "b": 4}
    assert labels_in(assigned, "val") == {"d": 4}
    assert "Class 'c' has only 2 of 3 training images. All are kept." in notes


def test_the_images_of_a_smaller_count_are_among_those_of_a_larger_count() -> None:
    rows = make_rows({"a": 20, "b": 20})
    kept = [set(images_in(split_rows(rows, SplitPlan(train_per_class=n), seed=2)[0], "train")) for n in (1, 3, 10, 20)]
    assert kept[0] < kept[1] < kept[2] < kept[3]


# split_rows: seeds and errors


def test_a_split_is_the_same_on_every_machine() -> None:
    rows = make_rows({"a": 8, "b": 6}, group_size=2)
    fold, _ = split_rows(rows, SplitPlan(num_folds=3, fold=0), seed=1)
    few, _ = split_rows(rows, SplitPlan(train_per_class=1), seed=1)
    assert images_in(fold, "val") == ["a002", "a003", "a006", "a007", "b000", "b001"]
    assert images_in(few, "train") == ["a001", "b005"]


@pytest.mark.parametrize(
    "plan", [SplitPlan(val_fraction=0.2), SplitPlan(num_folds=3, fold=0), SplitPlan(train_per_class=5)]
)
def test_another_seed_gives_another_split(plan: SplitPlan) -> None:
    rows = make_rows({"a": 30})
    assert split_rows(rows, plan, seed=1) != split_rows(rows, plan, seed=2)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "Nothing to split"),
        ({"num_folds": 5}, "num_folds and fold must be given together"),
        ({"fold": 1}, "num_folds and fold must be given together"),
        ({"num_folds": 5, "fold": 5}, "fold is 5; with 5 folds expected 0 to 4"),
        ({"num_folds": 5, "fold": 0, "val_fraction": 0.2}, "Give only one of them"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "leave no training images"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        SplitPlan(**settings)


def test_rows_of_a_single_group_can_not_be_divided_into_folds() -> None:
    with pytest.raises(DataError, match="No row can be val"):
        split_rows(make_rows({"a": 6}, group_size=6), SplitPlan(num_folds=2, fold=0), seed=1)

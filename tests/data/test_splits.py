"""Dealing rows anew: shares, folds, a few per class; groups whole, classes alike, the same everywhere."""

from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnsa.data.deal import Plan, deal
from mnsa.data.faults import refuse
from mnsa.data.rows import Row, check_rows
from mnsa.errors import DataError


def rows_of(sizes: dict[str, int], group_size: int = 0, split: str = "train") -> list[Row]:
    return [
        Row(f"{label}{n:02}", label=label, split=split, group=f"{label}/{n // group_size}" if group_size else "")
        for label, size in sizes.items()
        for n in range(size)
    ]


def counts(rows: tuple[Row, ...]) -> dict[str, int]:
    return dict(Counter(row.split for row in rows))


many_rows = st.lists(
    st.tuples(st.sampled_from("aabbc"), st.sampled_from(["train", "val", "test", ""]), st.sampled_from("    pqrstuv")),
    min_size=1,
    max_size=40,
).map(
    lambda drawn: [
        Row(f"{n:02}", label=label, split=split, group=f"{group}{split}".strip() if group != " " else "")
        for n, (label, split, group) in enumerate(drawn)
    ]
)
plans = st.one_of(
    st.builds(Plan, val=st.floats(0.05, 0.4), test=st.none() | st.floats(0.05, 0.4)),
    st.builds(Plan, folds=st.just(3), fold=st.integers(0, 2), test=st.none() | st.floats(0.05, 0.4)),
    st.builds(Plan, few_shot=st.integers(1, 3), val=st.none() | st.floats(0.05, 0.4)),
)


def splits_dealt(rows: list[Row], plan: Plan, seed: int) -> tuple[Row, ...]:
    """Deal, and pass over the drawn rows that can't be dealt."""
    try:
        return deal(rows, plan, seed=seed)[0]
    except DataError as error:
        assume("No row can be" not in str(error))
        raise


@given(many_rows, plans, st.integers(0, 9))
def test_no_group_is_ever_in_two_splits_and_no_row_is_lost(rows: list[Row], plan: Plan, seed: int) -> None:
    dealt = splits_dealt(rows, plan, seed)
    check_rows(dealt, ["somewhere"] * len(dealt), "abc", (), refuse)
    assert [row.image for row in dealt] == [row.image for row in rows]
    splits_of = defaultdict(set)
    for row in dealt:
        splits_of[row.group].add(row.split)
    assert all(len(splits - {""}) <= 1 for group, splits in splits_of.items() if group)


@given(many_rows, plans.filter(lambda plan: plan.few_shot is None), st.integers(0, 9))
def test_what_is_chosen_by_or_dealt_to_test_is_also_learnt(rows: list[Row], plan: Plan, seed: int) -> None:
    dealt = splits_dealt(rows, plan, seed)
    learnt = {row.label for row in dealt if row.split == "train"}
    assert {row.label for row in dealt if row.split == "val"} <= learnt
    if plan.test is not None:
        assert {row.label for row in dealt if row.split == "test"} <= learnt


@given(many_rows, plans, st.integers(0, 9))
def test_the_order_of_the_rows_does_not_matter(rows: list[Row], plan: Plan, seed: int) -> None:
    def splits(some: list[Row]) -> object:
        try:
            return {row.image: row.split for row in deal(some, plan, seed=seed)[0]}
        except DataError as error:
            return str(error)

    assert splits(rows) == splits(Random(seed).sample(rows, len(rows)))


@given(many_rows, st.integers(0, 9))
def test_what_is_test_stays_test_unless_it_is_dealt(rows: list[Row], seed: int) -> None:
    for plan in (Plan(few_shot=1), Plan(val=0.2), Plan(folds=2, fold=1)):
        dealt = splits_dealt(rows, plan, seed)
        assert [row.split == "test" for row in dealt] == [row.split == "test" for row in rows]


def test_shares_are_shares_of_all_images() -> None:
    dealt, notes = deal(rows_of({"a": 60, "b": 40}), Plan(val=0.2, test=0.3), seed=1)
    assert counts(dealt) == {"train": 50, "val": 20, "test": 30}
    assert Counter(row.label for row in dealt if row.split == "val") == {"a": 12, "b": 8}
    assert Counter(row.label for row in dealt if row.split == "test") == {"a": 18, "b": 12}
    assert notes == ()


def test_a_test_share_alone_brings_the_usual_validation_share() -> None:
    assert counts(deal(rows_of({"a": 50}), Plan(test=0.2), seed=1)[0]) == {"train": 30, "val": 10, "test": 10}


def test_without_a_test_share_validation_is_a_share_of_the_rest() -> None:
    rows = [*rows_of({"a": 50}), *rows_of({"b": 10}, split="test"), *rows_of({"c": 10}, split="")]
    dealt, _ = deal(rows, Plan(val=0.5), seed=1)
    assert counts(dealt) == {"train": 30, "val": 30, "test": 10}


def test_unused_images_of_a_tested_plant_stay_unused() -> None:
    rows = [*rows_of({"a": 10}), Row("t", label="a", split="test", group="p"), Row("u", label="a", group="p")]
    dealt, notes = deal(rows, Plan(val=0.2), seed=1)
    assert {row.image: row.split for row in dealt if row.group} == {"t": "test", "u": ""}
    assert notes == ("1 images share a group with test images, so they are used nowhere.",)


def test_every_image_is_validated_in_one_fold_and_classes_are_spread_alike() -> None:
    rows = rows_of({"a": 23, "b": 11, "c": 5})
    folds = [deal(rows, Plan(folds=5, fold=n), seed=4)[0] for n in range(5)]
    validated = Counter(row.image for dealt in folds for row in dealt if row.split == "val")
    assert validated == dict.fromkeys((row.image for row in rows), 1)
    for label in "abc":
        sizes = [sum(row.label == label and row.split == "val" for row in dealt) for dealt in folds]
        assert max(sizes) - min(sizes) <= 1
    assert sorted(counts(dealt)["val"] for dealt in folds) == [7, 8, 8, 8, 8]


def test_folds_keep_groups_whole() -> None:
    rows = rows_of({"a": 24, "b": 12}, group_size=4)
    folds = [deal(rows, Plan(folds=3, fold=n), seed=1)[0] for n in range(3)]
    assert [counts(dealt) for dealt in folds] == [{"train": 24, "val": 12}] * 3
    assert all(len({row.split for row in dealt if row.group == "a/2"}) == 1 for dealt in folds)


def test_folds_with_a_test_share_test_the_same_images() -> None:
    rows = rows_of({"a": 30})
    tested = [
        {row.image for row in deal(rows, Plan(folds=4, fold=n, test=0.2), seed=1)[0] if row.split == "test"}
        for n in range(4)
    ]
    assert len(tested[0]) == 6
    assert tested == [tested[0]] * 4


def test_a_class_in_one_piece_is_trained_in_every_fold_and_named() -> None:
    rows = [*rows_of({"a": 10, "single": 1}), *rows_of({"plant": 3}, group_size=3)]
    for fold in range(2):
        dealt, notes = deal(rows, Plan(folds=2, fold=fold), seed=1)
        assert {row.split for row in dealt if row.label != "a"} == {"train"}
        assert notes == (
            "Class 'plant' is not in every split (3 images in 1 pieces that can move alone): 3 in train; none in val.",
            "Class 'single' is not in every split (1 images in 1 pieces that can move alone): 1 in train; none in val.",
        )


def test_few_shots_are_so_many_of_each_class_and_the_rest_is_unused() -> None:
    rows = [*rows_of({"a": 10, "b": 7, "c": 2}), *rows_of({"d": 4}, split="val")]
    dealt, notes = deal(rows, Plan(few_shot=3), seed=1)
    assert Counter((row.label, row.split) for row in dealt) == {
        ("a", "train"): 3, ("a", ""): 7, ("b", "train"): 3, ("b", ""): 4, ("c", "train"): 2, ("d", "val"): 4
    }  # fmt: skip
    assert "Class 'c' has 2 of 3 training images: all are kept." in notes


def test_fewer_shots_are_among_more_shots() -> None:
    rows = rows_of({"a": 20, "b": 20})
    kept = [
        {row.image for row in deal(rows, Plan(few_shot=n), seed=2)[0] if row.split == "train"} for n in (1, 3, 10, 20)
    ]
    assert kept[0] < kept[1] < kept[2] < kept[3]


def test_the_choice_is_the_same_on_every_machine() -> None:
    rows = rows_of({"a": 8, "b": 6}, group_size=2)
    held = [row.image for row in deal(rows, Plan(folds=3, fold=0), seed=1)[0] if row.split == "val"]
    few = [row.image for row in deal(rows, Plan(few_shot=1), seed=1)[0] if row.split == "train"]
    assert held == ["a02", "a03", "a06", "a07", "b00", "b01"]
    assert few == ["a01", "b05"]


def test_another_seed_deals_otherwise() -> None:
    rows = rows_of({"a": 30})
    for plan in (Plan(val=0.2), Plan(folds=3, fold=0), Plan(few_shot=5)):
        assert deal(rows, plan, seed=1) != deal(rows, plan, seed=2)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(), "Nothing to deal"),
        (Plan(folds=5), "--folds and --fold belong together"),
        (Plan(fold=1), "--folds and --fold belong together"),
        (Plan(folds=5, fold=5), "--fold is 5; of 5 folds expected 0 to 4"),
        (Plan(folds=5, fold=0, val=0.2), "Give one of them"),
        (Plan(val=0.6, test=0.5), "leave nothing to train"),
        (Plan(folds=2, fold=0), "No row can be val"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(plan: Plan, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        deal(rows_of({"a": 6}, group_size=6), plan, seed=1)

"""Dealing rows anew: fractions, folds, a few per class; groups whole, classes alike, the same everywhere."""

from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnsa.data.findings import raise_finding
from mnsa.data.rows import Row, validate_rows
from mnsa.data.splits import SplitPlan, hold_out, hold_out_validation, split_rows
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

fractions = st.floats(0.05, 0.95)


@given(many_rows, fractions, st.integers(0, 99))
def test_rows_only_move_from_train_to_validation(rows: list[Row], fraction: float, seed: int) -> None:
    carved = hold_out_validation(rows, fraction=fraction, seed=seed)
    before, after = defaultdict(set), defaultdict(set)
    for old, new in zip(rows, carved, strict=True):
        assert old.image == new.image
        before[old.split].add(old.image)
        after[new.split].add(new.image)
    assert after["train"] | after["val"] == before["train"]
    assert not after["train"] & after["val"]
    assert all(after[split] == before[split] for split in ("test", ""))


@given(many_rows, fractions, st.integers(0, 99))
def test_groups_stay_whole_and_classes_stay_in_train(rows: list[Row], fraction: float, seed: int) -> None:
    carved = hold_out_validation(rows, fraction=fraction, seed=seed)
    splits_of_group = defaultdict(set)
    for row in carved:
        splits_of_group[row.group].add(row.split)
    assert all(len(splits) == 1 for group, splits in splits_of_group.items() if group)
    assert {row.label for row in carved if row.split == "train"} == {row.label for row in rows if row.split == "train"}


@given(many_rows, fractions, st.integers(0, 99))
def test_the_choice_depends_on_the_seed_and_not_on_the_order(rows: list[Row], fraction: float, seed: int) -> None:
    shuffled = Random(seed).sample(rows, len(rows))
    carved = {row.image: row.split for row in hold_out_validation(rows, fraction=fraction, seed=seed)}
    assert {row.image: row.split for row in hold_out_validation(shuffled, fraction=fraction, seed=seed)} == carved


def test_the_choice_is_the_same_on_every_machine() -> None:
    carved = hold_out_validation(rows_of({"a": 6, "b": 4}), fraction=0.3, seed=1)
    assert [row.image for row in carved if row.split == "val"] == ["a3.png", "a5.png", "b0.png"]


def test_another_seed_chooses_other_rows() -> None:
    rows = rows_of({"a": 30, "b": 30})
    assert hold_out_validation(rows, fraction=0.2, seed=1) != hold_out_validation(rows, fraction=0.2, seed=2)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"a": 50, "b": 20, "c": 10}, {"a": 10, "b": 4, "c": 2}),
        ({"a": 100, "single": 1}, {"a": 20}),
        ({"a": 3, "b": 2}, {"a": 1}),
    ],
)
def test_every_class_gives_its_share(sizes: dict[str, int], expected: dict[str, int]) -> None:
    carved = hold_out_validation(rows_of(sizes), fraction=0.2, seed=3)
    assert Counter(row.label for row in carved if row.split == "val") == expected


def test_two_hundred_classes_of_four_images_give_a_fifth() -> None:
    carved = hold_out_validation(rows_of({f"c{n:03}": 4 for n in range(200)}), fraction=0.2, seed=1)
    taken = Counter(row.label for row in carved if row.split == "val")
    assert taken.total() == 160
    assert set(taken.values()) == {1}


def test_groups_larger_than_the_quota_still_give_one() -> None:
    carved = hold_out_validation(rows_of({"a": 20}, group_size=10), fraction=0.1, seed=1)
    assert Counter(row.split for row in carved) == {"train": 10, "val": 10}


def test_groups_bring_about_the_share() -> None:
    carved = hold_out_validation(rows_of({"a": 60, "b": 60}, group_size=3), fraction=0.2, seed=5)
    assert Counter(row.label for row in carved if row.split == "val") == {"a": 12, "b": 12}


def test_a_single_group_can_not_be_divided() -> None:
    rows = rows_of({"a": 5}, group_size=5)
    assert hold_out_validation(rows, fraction=0.5, seed=1) == tuple(rows)


def test_test_rows_are_carved_the_same_way() -> None:
    carved = hold_out(rows_of({"a": 10}), source="train", target="test", fraction=0.3, seed=1)
    assert Counter(row.split for row in carved) == {"train": 7, "test": 3}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="expected a number between 0 and 1"):
        hold_out_validation(rows_of({"a": 4}), fraction=fraction, seed=1)


def rows_in(sizes: dict[str, int], group_size: int = 0, split: str = "train") -> list[Row]:
    return [
        Row(f"{label}{n:02}", label=label, split=split, group=f"{label}/{n // group_size}" if group_size else "")
        for label, size in sizes.items()
        for n in range(size)
    ]


def counts(rows: tuple[Row, ...]) -> dict[str, int]:
    return dict(Counter(row.split for row in rows))


many_labelled_rows = st.lists(
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
    st.builds(SplitPlan, val=st.floats(0.05, 0.4), test=st.none() | st.floats(0.05, 0.4)),
    st.builds(SplitPlan, folds=st.just(3), fold=st.integers(0, 2), test=st.none() | st.floats(0.05, 0.4)),
    st.builds(SplitPlan, few_shot=st.integers(1, 3), val=st.none() | st.floats(0.05, 0.4)),
)


def split_or_assume(rows: list[Row], plan: SplitPlan, seed: int) -> tuple[Row, ...]:
    """Split, and skip drawn rows that can't be split."""
    try:
        return split_rows(rows, plan, seed=seed)[0]
    except DataError as error:
        assume("No row can be" not in str(error))
        raise


@given(many_labelled_rows, plans, st.integers(0, 9))
def test_no_group_is_ever_in_two_splits_and_no_row_is_lost(rows: list[Row], plan: SplitPlan, seed: int) -> None:
    assigned = split_or_assume(rows, plan, seed)
    validate_rows(assigned, ["somewhere"] * len(assigned), "abc", (), raise_finding)
    assert [row.image for row in assigned] == [row.image for row in rows]
    splits_of = defaultdict(set)
    for row in assigned:
        splits_of[row.group].add(row.split)
    assert all(len(splits - {""}) <= 1 for group, splits in splits_of.items() if group)


@given(many_labelled_rows, plans.filter(lambda plan: plan.few_shot is None), st.integers(0, 9))
def test_what_is_chosen_by_or_dealt_to_test_is_also_learnt(rows: list[Row], plan: SplitPlan, seed: int) -> None:
    assigned = split_or_assume(rows, plan, seed)
    learnt = {row.label for row in assigned if row.split == "train"}
    assert {row.label for row in assigned if row.split == "val"} <= learnt
    if plan.test is not None:
        assert {row.label for row in assigned if row.split == "test"} <= learnt


@given(many_labelled_rows, plans, st.integers(0, 9))
def test_the_order_of_the_rows_does_not_matter(rows: list[Row], plan: SplitPlan, seed: int) -> None:
    def splits(some: list[Row]) -> object:
        try:
            return {row.image: row.split for row in split_rows(some, plan, seed=seed)[0]}
        except DataError as error:
            return str(error)

    assert splits(rows) == splits(Random(seed).sample(rows, len(rows)))


@given(many_labelled_rows, st.integers(0, 9))
def test_what_is_test_stays_test_unless_it_is_dealt(rows: list[Row], seed: int) -> None:
    for plan in (SplitPlan(few_shot=1), SplitPlan(val=0.2), SplitPlan(folds=2, fold=1)):
        assigned = split_or_assume(rows, plan, seed)
        assert [row.split == "test" for row in assigned] == [row.split == "test" for row in rows]


def test_shares_are_shares_of_all_images() -> None:
    assigned, notes = split_rows(rows_in({"a": 60, "b": 40}), SplitPlan(val=0.2, test=0.3), seed=1)
    assert counts(assigned) == {"train": 50, "val": 20, "test": 30}
    assert Counter(row.label for row in assigned if row.split == "val") == {"a": 12, "b": 8}
    assert Counter(row.label for row in assigned if row.split == "test") == {"a": 18, "b": 12}
    assert notes == ()


def test_a_test_share_alone_brings_the_usual_validation_share() -> None:
    assert counts(split_rows(rows_in({"a": 50}), SplitPlan(test=0.2), seed=1)[0]) == {
        "train": 30,
        "val": 10,
        "test": 10,
    }


def test_without_a_test_share_validation_is_a_share_of_the_rest() -> None:
    rows = [*rows_in({"a": 50}), *rows_in({"b": 10}, split="test"), *rows_in({"c": 10}, split="")]
    assigned, _ = split_rows(rows, SplitPlan(val=0.5), seed=1)
    assert counts(assigned) == {"train": 30, "val": 30, "test": 10}


def test_unused_images_of_a_tested_plant_stay_unused() -> None:
    rows = [*rows_in({"a": 10}), Row("t", label="a", split="test", group="p"), Row("u", label="a", group="p")]
    assigned, notes = split_rows(rows, SplitPlan(val=0.2), seed=1)
    assert {row.image: row.split for row in assigned if row.group} == {"t": "test", "u": ""}
    assert notes == ("1 images share a group with test images, so they are used nowhere.",)


def test_every_image_is_validated_in_one_fold_and_classes_are_spread_alike() -> None:
    rows = rows_in({"a": 23, "b": 11, "c": 5})
    folds = [split_rows(rows, SplitPlan(folds=5, fold=n), seed=4)[0] for n in range(5)]
    validated = Counter(row.image for assigned in folds for row in assigned if row.split == "val")
    assert validated == dict.fromkeys((row.image for row in rows), 1)
    for label in "abc":
        sizes = [sum(row.label == label and row.split == "val" for row in assigned) for assigned in folds]
        assert max(sizes) - min(sizes) <= 1
    assert sorted(counts(assigned)["val"] for assigned in folds) == [7, 8, 8, 8, 8]


def test_folds_keep_groups_whole() -> None:
    rows = rows_in({"a": 24, "b": 12}, group_size=4)
    folds = [split_rows(rows, SplitPlan(folds=3, fold=n), seed=1)[0] for n in range(3)]
    assert [counts(assigned) for assigned in folds] == [{"train": 24, "val": 12}] * 3
    assert all(len({row.split for row in assigned if row.group == "a/2"}) == 1 for assigned in folds)


def test_folds_with_a_test_share_test_the_same_images() -> None:
    rows = rows_in({"a": 30})
    tested = [
        {row.image for row in split_rows(rows, SplitPlan(folds=4, fold=n, test=0.2), seed=1)[0] if row.split == "test"}
        for n in range(4)
    ]
    assert len(tested[0]) == 6
    assert tested == [tested[0]] * 4


def test_a_class_in_one_piece_is_trained_in_every_fold_and_named() -> None:
    rows = [*rows_in({"a": 10, "single": 1}), *rows_in({"plant": 3}, group_size=3)]
    for fold in range(2):
        assigned, notes = split_rows(rows, SplitPlan(folds=2, fold=fold), seed=1)
        assert {row.split for row in assigned if row.label != "a"} == {"train"}
        assert notes == (
            "Class 'plant' is not in every split (3 images in 1 pieces that can move alone): 3 in train; none in val.",
            "Class 'single' is not in every split (1 images in 1 pieces that can move alone): 1 in train; none in val.",
        )


def test_few_shots_are_so_many_of_each_class_and_the_rest_is_unused() -> None:
    rows = [*rows_in({"a": 10, "b": 7, "c": 2}), *rows_in({"d": 4}, split="val")]
    assigned, notes = split_rows(rows, SplitPlan(few_shot=3), seed=1)
    assert Counter((row.label, row.split) for row in assigned) == {
        ("a", "train"): 3, ("a", ""): 7, ("b", "train"): 3, ("b", ""): 4, ("c", "train"): 2, ("d", "val"): 4
    }  # fmt: skip
    assert "Class 'c' has 2 of 3 training images: all are kept." in notes


def test_fewer_shots_are_among_more_shots() -> None:
    rows = rows_in({"a": 20, "b": 20})
    kept = [
        {row.image for row in split_rows(rows, SplitPlan(few_shot=n), seed=2)[0] if row.split == "train"}
        for n in (1, 3, 10, 20)
    ]
    assert kept[0] < kept[1] < kept[2] < kept[3]


def test_the_split_is_the_same_on_every_machine() -> None:
    rows = rows_in({"a": 8, "b": 6}, group_size=2)
    held = [row.image for row in split_rows(rows, SplitPlan(folds=3, fold=0), seed=1)[0] if row.split == "val"]
    few = [row.image for row in split_rows(rows, SplitPlan(few_shot=1), seed=1)[0] if row.split == "train"]
    assert held == ["a02", "a03", "a06", "a07", "b00", "b01"]
    assert few == ["a01", "b05"]


def test_another_seed_deals_otherwise() -> None:
    rows = rows_in({"a": 30})
    for plan in (SplitPlan(val=0.2), SplitPlan(folds=3, fold=0), SplitPlan(few_shot=5)):
        assert split_rows(rows, plan, seed=1) != split_rows(rows, plan, seed=2)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (SplitPlan(), "Nothing to split"),
        (SplitPlan(folds=5), "--num-folds and --fold belong together"),
        (SplitPlan(fold=1), "--num-folds and --fold belong together"),
        (SplitPlan(folds=5, fold=5), "--fold is 5; of 5 folds expected 0 to 4"),
        (SplitPlan(folds=5, fold=0, val=0.2), "Give one of them"),
        (SplitPlan(val=0.6, test=0.5), "leave nothing to train"),
        (SplitPlan(folds=2, fold=0), "No row can be val"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(plan: SplitPlan, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        split_rows(rows_in({"a": 6}, group_size=6), plan, seed=1)

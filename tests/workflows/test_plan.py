"""`plan_training`: what is planned for which data, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.manifest import Manifest, Row, read_manifest, write_manifest
from mnsa.errors import ConfigError
from mnsa.workflows import plan as plan_module
from mnsa.workflows.plan import PlannedTasks, TrainingPlan, plan_training
from mnsa.workflows.training_cost import TrainingCost, TrainingMemory

MakeData = Callable[..., Path]


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """Write a data set of two classes: grey images, with or without labels and masks."""

    def make(
        *, size: tuple[int, int] = (96, 64), train: int = 6, labels: bool = True, mask: np.ndarray | None = None,
        classes: tuple[str, ...] = ("a", "b"), sizes: tuple[int, ...] = (), mask_class: str = "vein",
    ) -> Path:  # fmt: skip
        folder = tmp_path / "data"
        folder.mkdir()
        rows = []
        chosen = [classes[index % len(classes)] for index in range(train)]
        chosen = [name for name, size in zip(classes, sizes, strict=True) for _ in range(size)] if sizes else chosen
        for index, (split, label) in enumerate([("train", name) for name in chosen] + [("val", classes[0])]):
            Image.fromarray(np.full((*size, 3), 90 + index % 150, np.uint8)).save(folder / f"{index}.png")
            if mask is not None:
                Image.fromarray(mask).save(folder / f"{index}_mask.png")
            rows.append(
                Row(
                    image=f"{index}.png", label=label if labels else "", split=split,
                    mask="" if mask is None else f"{index}_mask.png",
                )
            )  # fmt: skip
        mask_classes = () if mask is None else (mask_class,)
        write_manifest(Manifest("data", folder, classes if labels else (), mask_classes, tuple(rows)), folder / "set")
        return folder / "set"

    return make


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the measurement of the machine by a time per image, a time per pixel, and the memory."""

    def measured(read_s: float, pixel_s: float, memory: TrainingMemory | None = None) -> None:
        monkeypatch.setattr(plan_module, "measure_training", lambda *_: TrainingCost(read_s, pixel_s, memory))

    measured(0.001, 1e-6)
    return measured


def test_labels_alone_are_classified(make_data: MakeData) -> None:
    plan = plan_training(make_data())

    (stage,) = plan.config.stages
    assert stage.tasks == ("classification",)
    assert stage.trainable == ("backbone", "attention", "class_head")


def test_masks_alone_are_segmented(make_data: MakeData) -> None:
    plan = plan_training(make_data(labels=False, mask=_leaf((96, 64))))

    assert plan.config.stages[0].tasks == ("segmentation",)
    assert plan.config.loss.cldice == 0


def test_labels_and_masks_are_trained_together(make_data: MakeData) -> None:
    plan = plan_training(make_data(mask=_leaf((96, 64))))

    assert plan.config.stages[0].tasks == ("classification", "segmentation")


def test_one_class_alone_leaves_the_masks(make_data: MakeData) -> None:
    data = make_data(classes=("a",), mask=_leaf((96, 64)))

    assert plan_training(data).config.stages[0].tasks == ("segmentation",)


def test_one_class_without_masks_is_refused(make_data: MakeData) -> None:
    data = make_data(classes=("a",))

    with pytest.raises(ConfigError, match=r"there are 1 classes in `train`.*--tasks"):
        plan_training(data)


@pytest.mark.parametrize("tasks", ["segmentation", "both"])
def test_wanted_masks_that_do_not_exist_are_refused(make_data: MakeData, tasks: PlannedTasks) -> None:
    data = make_data()

    with pytest.raises(ConfigError, match=r"there are 0 in `train` and 0 in `val`"):
        plan_training(data, tasks=tasks)


def test_masks_that_are_too_few_are_left_out_and_said(make_data: MakeData) -> None:
    data = make_data(mask=_leaf((96, 64)))
    manifest = read_manifest(data)
    rows = tuple(replace(row, mask="") if row.split == "val" else row for row in manifest.rows)
    write_manifest(replace(manifest, rows=rows), data.with_name("few"))

    plan = plan_training(data.with_name("few"))

    assert plan.config.tasks == {"classification"}
    assert "segmentation needs masks in the splits" in plan.choices[0].reason
    assert "there are 6 in `train` and 0 in `val`" in plan.choices[0].reason


def test_a_wanted_task_is_the_only_one(make_data: MakeData) -> None:
    plan = plan_training(make_data(mask=_leaf((96, 64))), tasks="classification")

    assert plan.config.stages[0].tasks == ("classification",)


def test_thin_masks_of_large_images_are_trained_on_crops_with_a_loss_that_keeps_lines_together(
    make_data: MakeData,
) -> None:
    plan = plan_training(make_data(size=(600, 500), labels=False, mask=_lines((600, 500))))

    config = plan.config
    assert config.data.resize_mode == "crop"
    assert config.data.size == (256, 256)
    assert config.data.crops_per_epoch >= 150
    assert config.loss.cldice > 0
    assert config.loss.thin_classes == ("vein",)
    assert config.model.pretrained == "veins"
    assert next(one for one in plan.choices if one.name == "start").value == "veins"


@pytest.mark.parametrize(("mask_class", "labels"), [("vessel", False), ("vein", True)])
def test_other_thin_masks_and_masks_with_labels_start_from_imagenet(
    make_data: MakeData, mask_class: str, labels: bool
) -> None:
    size = (600, 500)

    plan = plan_training(make_data(size=size, labels=labels, mask=_lines(size), mask_class=mask_class))

    assert plan.config.loss.thin_classes == (mask_class,)
    assert plan.config.model.pretrained != "veins"
    assert "start" not in {one.name for one in plan.choices}


def test_inputs_have_the_shape_of_the_images_and_are_not_larger(make_data: MakeData) -> None:
    height, width = plan_training(make_data(size=(300, 150))).config.data.size

    assert (height, width) == (320, 160)


def test_a_slow_machine_gets_smaller_inputs(make_data: MakeData, machine: Callable[..., None]) -> None:
    data = make_data(size=(600, 600), train=40)
    machine(0.001, 4e-7)
    fast = plan_training(data)
    machine(0.001, 4e-6)
    slow = plan_training(data)

    assert fast.config.data.size == (512, 512)
    assert slow.config.data.size < fast.config.data.size


@pytest.mark.parametrize("minutes", [10, 30, 120])
def test_the_estimate_keeps_to_the_budget(make_data: MakeData, machine: Callable[..., None], minutes: int) -> None:
    data = make_data(train=40, size=(256, 256))
    machine(0.01, 4e-6)

    plan = plan_training(data, budget_s=minutes * 60)

    assert 0 < plan.estimate_s <= minutes * 60
    assert plan.config.stages[0].epochs >= 10


def test_a_budget_too_short_for_one_epoch_is_refused(make_data: MakeData, machine: Callable[..., None]) -> None:
    data = make_data(train=40, size=(256, 256))
    machine(0.01, 4e-6)

    with pytest.raises(ConfigError, match=r"One epoch of 40 images takes about .* budget of 5 s.* --budget \d+m\."):
        plan_training(data, budget_s=5)


@pytest.mark.parametrize(("minutes", "decay"), [(1, 0.9), (30, 0.9875)])
def test_a_short_training_averages_its_weights_over_fewer_steps(
    make_data: MakeData, machine: Callable[..., None], minutes: int, decay: float
) -> None:
    data = make_data(train=40, size=(256, 256))
    machine(0.01, 2e-6)

    assert plan_training(data, budget_s=minutes * 60).config.train.ema_decay == decay


@pytest.mark.parametrize(("sizes", "weights"), [((4, 4), "none"), ((9, 3), "balanced")])
def test_uneven_classes_are_weighted(make_data: MakeData, sizes: tuple[int, ...], weights: str) -> None:
    plan = plan_training(make_data(sizes=sizes))

    assert plan.config.loss.class_weights == weights


def test_one_image_is_refused_with_what_is_missing(make_data: MakeData) -> None:
    data = make_data(train=1, mask=_leaf((96, 64)))
    manifest = read_manifest(data)
    write_manifest(replace(manifest, rows=manifest.rows[:1]), data.with_name("one"))
    missing = r"1 classes in `train` and 0 in `val`; .*there are 1 in `train` and 0 in `val`.*mnsa split"
    with pytest.raises(ConfigError, match=missing):
        plan_training(data.with_name("one"))


def test_hundreds_of_classes_with_one_or_two_images_have_a_plan(
    make_data: MakeData, machine: Callable[..., None]
) -> None:
    machine(0.01, 1e-6)
    classes = tuple(f"c{number:03}" for number in range(300))
    plan = plan_training(make_data(classes=classes, sizes=(2,) * 150 + (1,) * 150))
    assert plan.config.tasks == {"classification"}
    assert plan.config.loss.class_weights == "balanced"
    assert "balanced sampling would leave out" in next(c.reason for c in plan.choices if c.name == "class weights")


def test_every_choice_has_a_reason(make_data: MakeData) -> None:
    plan: TrainingPlan = plan_training(make_data(mask=_lines((96, 64))))

    assert [choice.name for choice in plan.choices] == [
        "tasks", "input", "mask loss", "class weights", "batch", "epochs",
    ]  # fmt: skip
    assert all(choice.value and choice.reason for choice in plan.choices)


@pytest.mark.parametrize(
    ("megabytes", "side", "batch_size"),
    [(1000, 512, 8), (200, 512, 4), (100, 384, 4), (13, 224, 2)],  # 100 bytes per pixel: 26 MB for an image of 512 px
)
def test_the_batch_and_the_input_fit_in_memory(
    make_data: MakeData, machine: Callable[..., None], megabytes: int, side: int, batch_size: int
) -> None:
    machine(0.001, 1e-8, TrainingMemory(fixed_bytes=0, pixel_bytes=100, available_bytes=megabytes * 1_000_000))
    plan = plan_training(make_data(size=(600, 600), train=40))
    stage = plan.config.stages[0]
    assert (plan.config.data.size, stage.batch_size) == ((side, side), batch_size)
    assert batch_size * side**2 * 100 <= 0.8e6 * megabytes
    reason = next(choice.reason for choice in plan.choices if choice.name == "batch")
    assert f"they need {batch_size * side**2 * 100 / 1e9:.1f} GB" in reason
    assert f"{megabytes / 1000:.1f} GB are free" in reason


def test_no_memory_for_two_images_is_refused(make_data: MakeData, machine: Callable[..., None]) -> None:
    machine(0.001, 1e-8, TrainingMemory(fixed_bytes=0, pixel_bytes=100, available_bytes=10_000_000))
    with pytest.raises(ConfigError, match="Not enough memory for 2 images of 224 x 224 px at once"):
        plan_training(make_data(size=(600, 600)))


def _leaf(size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 4 : -size[0] // 4, size[1] // 4 : -size[1] // 4] = 255
    return mask


def _lines(size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[:, size[1] // 2] = mask[size[0] // 2] = mask[size[0] // 4] = 255
    return mask

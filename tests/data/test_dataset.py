"""Sampler, data set and data loaders: the same batches for any number of workers, and for a seed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from skimage.morphology import skeletonize
from torch import Tensor

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data import dataset
from mnsa.data.cache import DecodedCache
from mnsa.data.dataset import (
    EpochSampler,
    LeafDataModule,
    LeafDataset,
    SampleIndex,
    class_weights,
    find_centerlines,
    read_sample,
    sample_seed,
    seed_cpu_generator,
)
from mnsa.data.manifest import Manifest, Row
from mnsa.data.transforms import eval_transform
from mnsa.errors import DataError
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch


def rows_in_epoch(sampler: EpochSampler) -> list[int]:
    return [index.row for index in sampler]


def test_every_epoch_has_every_row_once_in_another_order() -> None:
    sampler = EpochSampler(50, seed=1, order="shuffled")
    first = rows_in_epoch(sampler)
    sampler.set_epoch(1)
    second = rows_in_epoch(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert {index.epoch for index in sampler} == {1}


def test_repeats_take_every_row_several_times_with_different_augmentation() -> None:
    indices = list(EpochSampler(10, seed=1, order="shuffled", repeats=3))
    assert sorted(index.row for index in indices) == sorted(3 * list(range(10)))
    assert len(set(indices)) == len({sample_seed(1, index) for index in indices}) == 30


def test_the_first_repeat_has_the_augmentation_of_an_epoch_without_repeats() -> None:
    expected = int(np.random.SeedSequence((7, 3, 5)).generate_state(1, np.uint64)[0])
    assert sample_seed(7, SampleIndex(3, 5)) == sample_seed(7, SampleIndex(3, 5, 0)) == expected


def test_a_balanced_epoch_has_equally_many_images_of_every_class_and_as_many_as_before() -> None:
    classes = np.array([0] * 40 + [1] * 10 + [-1] * 10)
    sampler = EpochSampler(60, seed=1, order="shuffled", classes=classes)
    seen = Counter[int]()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert len(indices) == len(set(indices)) == len(sampler) == 60  # repeats of a row have other augmentation
        found = Counter(int(classes[index.row]) for index in indices)
        assert all(abs(found[label] - expected) <= 1 for label, expected in ((0, 25), (1, 25), (-1, 10)))
        seen.update(index.row for index in indices)
    assert set(seen) == set(range(60))
    assert all(seen[row] == pytest.approx(100, abs=12) for row in range(40, 50))  # 2.5 times in an epoch


def test_the_order_depends_only_on_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = rows_in_epoch(EpochSampler(50, seed=1, order="shuffled"))
    torch.manual_seed(2)
    assert rows_in_epoch(EpochSampler(50, seed=1, order="shuffled")) == first
    assert rows_in_epoch(EpochSampler(50, seed=2, order="shuffled")) != first


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_distributed_processes_get_different_rows(
    order: Literal["shuffled", "sequential"], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of_rank = []
    for rank in range(3):
        monkeypatch.setattr(dataset, "rank_and_world_size", lambda rank=rank: (rank, 3))
        sampler = EpochSampler(20, seed=1, order=order)
        rows_of_rank.append(rows_in_epoch(sampler))
        assert len(sampler) == len(rows_of_rank[-1])
    all_rows = [row for rows in rows_of_rank for row in rows]
    assert len(set(all_rows)) == len(all_rows)
    if order == "sequential":
        assert sorted(all_rows) == list(range(20))
    else:
        assert [len(rows) for rows in rows_of_rank] == [6, 6, 6]  # every process does the same number of steps


def test_processes_share_the_batches_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = rows_in_epoch(EpochSampler(20, seed=1, order="shuffled"))
    together = []
    for rank in range(2):
        monkeypatch.setattr(dataset, "rank_and_world_size", lambda rank=rank: (rank, 2))
        together.append(rows_in_epoch(EpochSampler(20, seed=1, order="shuffled")))
    for start in range(0, 20, 4):
        parts = [rows[start // 2 : start // 2 + 2] for rows in together]
        assert sorted(parts[0] + parts[1]) == sorted(alone[start : start + 4])


def test_seeds_of_neighboring_indices_differ() -> None:
    seeds = {sample_seed(s, SampleIndex(e, r)) for s in range(4) for e in range(8) for r in range(32)}
    assert len(seeds) == 4 * 8 * 32
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_seeding_does_not_touch_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU was seeded"))
    seed_cpu_generator(2**64 - 1)
    first = torch.rand(3)
    seed_cpu_generator(2**64 - 1)
    assert torch.equal(torch.rand(3), first)


ZERO, ONE = (0.0,) * 3, (1.0,) * 3

STRONG_AUGMENTATION = AugmentConfig(rotation_deg=90, zoom=0.2, color_jitter=0.3, random_erasing=0.5)


def make_data_module(
    manifest: Manifest, *, workers: int = 0, seed: int = 1, batch_size: int = 4,
    resize_mode: Literal["resize", "crop"] = "resize",
    cache: DecodedCache | None = None, thin_classes: tuple[int, ...] = (), first_epoch: int = 0, first_batch: int = 0,
    balanced: bool = False,
) -> LeafDataModule:  # fmt: skip
    data = DataConfig(size=(32, 32), resize_mode=resize_mode)
    return LeafDataModule(
        manifest,
        data,
        STRONG_AUGMENTATION,
        mean=ZERO,
        std=ONE,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        cache=cache,
        thin_classes=thin_classes,
        first_epoch=first_epoch,
        first_batch=first_batch,
        balanced=balanced,
    )


def two_epochs(data_module: LeafDataModule) -> list[Batch]:
    loader = data_module.train_dataloader()
    batches: list[Batch] = list(loader)
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(1)
    return batches + list(loader)


def are_equal(batches: list[Batch], others: list[Batch]) -> bool:
    pairs = zip(batches, others, strict=True)
    return all(torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks) for a, b in pairs)


def test_batches_are_the_same_for_any_number_of_workers(leaves: Manifest) -> None:
    expected = two_epochs(make_data_module(leaves))
    assert are_equal(expected, two_epochs(make_data_module(leaves, workers=1)))
    assert are_equal(expected, two_epochs(make_data_module(leaves, workers=2)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_epoch_has_its_own_batches_before_anyone_sets_the_epoch(leaves: Manifest, workers: int) -> None:
    second_epoch = two_epochs(make_data_module(leaves))[2:]
    assert are_equal(second_epoch, list(make_data_module(leaves, workers=workers, first_epoch=1).train_dataloader()))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("used", [1, 2])
def test_an_epoch_goes_on_where_it_was_and_the_next_one_is_whole(
    leaves: Manifest, workers: int, balanced: bool, used: int
) -> None:
    whole = two_epochs(make_data_module(leaves, balanced=balanced))
    assert len(whole) == 4
    resumed = make_data_module(leaves, workers=workers, balanced=balanced, first_batch=used)
    assert are_equal(two_epochs(resumed), whole[used:])
    assert len(resumed.train_dataloader()) == 2  # Lightning counts from the first batch of the epoch


def test_batches_are_the_same_with_a_cache_and_any_number_of_workers(leaves: Manifest, tmp_path: Path) -> None:
    expected, cache = two_epochs(make_data_module(leaves)), DecodedCache(tmp_path / "cache", 10**9)
    for workers in (2, 1, 0):  # the first two workers fill the cache together
        assert are_equal(expected, two_epochs(make_data_module(leaves, workers=workers, cache=cache)))
    assert len(list(cache.folder.glob("??/*.rgb"))) == 10


def test_another_seed_or_epoch_gives_different_batches(leaves: Manifest) -> None:
    batches = two_epochs(make_data_module(leaves))
    assert not are_equal(batches[:2], batches[2:])
    assert not are_equal(batches, two_epochs(make_data_module(leaves, seed=2)))


def test_loading_does_not_change_the_global_generator(leaves: Manifest) -> None:
    before = torch.get_rng_state()
    two_epochs(make_data_module(leaves))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_has_images_masks_and_labels(leaves: Manifest) -> None:
    batch = next(iter(make_data_module(leaves).train_dataloader()))
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.masks.shape == (4, 32, 32)
    assert (batch.images.dtype, batch.masks.dtype, batch.labels.dtype) == (torch.float32, torch.int64, torch.int64)
    without_mask = (batch.masks == IGNORE_INDEX).all(dim=(1, 2))
    assert torch.equal(without_mask, batch.labels == 0)  # only images of class b have a mask


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches_have_the_centerlines_of_the_augmented_masks(leaves: Manifest, workers: int) -> None:
    loaders = make_data_module(leaves, thin_classes=(1,), workers=workers)
    for batch in loaders.train_dataloader():
        expected = [skeletonize((mask == 1).numpy(), method="lee") > 0 for mask in batch.masks]
        assert batch.centerlines.any()
        assert np.array_equal(batch.centerlines.numpy(), np.stack(expected))
        assert not batch.centerlines[batch.masks == IGNORE_INDEX].any()
        assert torch.equal(batch.to("cpu").centerlines, batch.centerlines)
    assert next(iter(loaders.val_dataloader())).centerlines is None
    assert next(iter(make_data_module(leaves).train_dataloader())).centerlines is None


def test_every_class_is_thinned_alone() -> None:
    mask = torch.zeros(20, 30, dtype=torch.long)
    mask[4:7], mask[7:12], mask[15] = 1, 2, IGNORE_INDEX  # two bands that touch
    first, second = (find_centerlines(mask, (value,)) for value in (1, 2))
    assert first.nonzero()[:, 0].unique().tolist() == [5]
    assert second.nonzero()[:, 0].unique().tolist() == [9]
    assert torch.equal(find_centerlines(mask, (1, 2)), first | second)
    assert not find_centerlines(torch.full((20, 30), IGNORE_INDEX), (1, 2)).any()


def test_a_smaller_last_training_batch_is_dropped(leaves: Manifest) -> None:
    nine = replace(leaves, rows=leaves.rows[1:])
    assert [len(batch.labels) for batch in make_data_module(nine).train_dataloader()] == [4, 4]
    assert [len(batch.labels) for batch in make_data_module(nine, batch_size=16).train_dataloader()] == [9]


def test_an_epoch_takes_several_different_crops_of_each_training_image(leaves: Manifest, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    row = Row(image="noise.png", label="a", split="train")
    one = replace(leaves, root=tmp_path, rows=(row, replace(row, split="val")))
    data = DataConfig(size=(32, 32), resize_mode="crop", crops_per_epoch=4)
    module = LeafDataModule(one, data, AugmentConfig(), mean=ZERO, std=ONE, batch_size=4, workers=0, seed=1)
    (crops,) = [batch.images for batch in module.train_dataloader()]
    assert len({crop.numpy().tobytes() for crop in crops}) == 4
    assert len(list(module.val_dataloader())) == 1


def test_every_image_is_cropped_as_often_as_the_others(leaves: Manifest) -> None:
    data = DataConfig(size=(32, 32), resize_mode="crop", crops_per_epoch=25)
    module = LeafDataModule(leaves, data, AugmentConfig(), mean=ZERO, std=ONE, batch_size=1, workers=0, seed=1)
    rows = [index.row for index in cast("EpochSampler", module.train_dataloader().sampler)]
    images = len(leaves.split("train").rows)
    assert np.bincount(rows).tolist() == [-(-25 // images)] * images


def test_validation_has_all_rows_in_order(leaves: Manifest) -> None:
    batches = list(make_data_module(leaves, batch_size=3).val_dataloader())
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 0, 1]
    transform = eval_transform(DataConfig(size=(32, 32)), ZERO, ONE)
    expected = [transform(read_sample(leaves, row).image)[0] for row in leaves.split("val").rows]
    torch.testing.assert_close(torch.cat([batch.images for batch in batches]), torch.stack(expected))


def test_validation_with_crop_has_batches_of_one_whole_image(leaves: Manifest, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(tmp_path / "10.png")
    shapes = [tuple(batch.images.shape[-2:]) for batch in make_data_module(leaves, resize_mode="crop").val_dataloader()]
    assert shapes == [(50, 60), (40, 40), (40, 40), (40, 40)]


def test_a_sample_carries_the_group_of_its_row(leaves: Manifest) -> None:
    assert read_sample(leaves, replace(leaves.rows[0], group="plant 1")).group == "plant 1"
    assert read_sample(leaves, leaves.rows[0]).group is None


def test_a_row_without_a_label_has_no_label_index(leaves: Manifest) -> None:
    row = replace(leaves.rows[1], label="")
    sample = read_sample(leaves, row)
    assert sample.label == NO_LABEL
    assert sample.mask is not None
    assert sample.path == "1.png"


def test_a_row_without_label_and_mask_is_refused(leaves: Manifest) -> None:
    unusable = replace(leaves, rows=(Row("0.png"),))
    with pytest.raises(DataError, match=r"0\.png has neither label nor mask"):
        LeafDataset(unusable, eval_transform(DataConfig(), ZERO, ONE), seed=1)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_refused(leaves: Manifest, split: str) -> None:
    with pytest.raises(DataError, match=f"no row with split `{split}`"):
        make_data_module(replace(leaves, rows=tuple(row for row in leaves.rows if row.split != split)))


def test_a_mask_of_another_size_than_its_image_is_refused(leaves: Manifest, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 39), np.uint8)).save(tmp_path / "1_mask.png")
    leaf_dataset = LeafDataset(leaves, eval_transform(DataConfig(), ZERO, ONE), seed=1)
    with pytest.raises(DataError, match=r"1_mask\.png has \(height, width\) \(40, 39\)"):
        leaf_dataset[SampleIndex(0, 1)]


def test_class_weights_are_inverse_frequencies() -> None:
    labels = ["a"] * 6 + ["b"] * 2
    rows = [Row(f"{n}.png", label=label, split="train") for n, label in enumerate(labels)]
    rows += [Row("v.png", label="a", split="val"), Row("u.png", split="train")]
    weights = class_weights(Manifest("n", Path("/"), ("a", "b", "no images"), (), tuple(rows)))
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5, 0.0]))


class RecordingModule(LightningModule):
    """Records the batches that it gets, and does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.images: list[Tensor] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.images.append(batch.images)
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # from Lightning, with the newest torch
def test_lightning_sets_the_epoch_of_the_sampler(leaves: Manifest, tmp_path: Path) -> None:
    module = RecordingModule()
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, train_dataloaders=make_data_module(leaves).train_dataloader())
    expected = [batch.images for batch in two_epochs(make_data_module(leaves))]
    assert all(torch.equal(a, b) for a, b in zip(module.images, expected, strict=True))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(leaves: Manifest, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((600, 800, 3), np.uint8)).save(tmp_path / "0.png")  # 1.4 MB when decoded
    leaf_dataset = LeafDataset(leaves, eval_transform(DataConfig(size=(32, 32)), ZERO, ONE), seed=1)

    def resident_kib() -> int:
        status = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    for _ in range(20):
        leaf_dataset[SampleIndex(0, 0)]
    before = resident_kib()
    for _ in range(200):  # 280 MB if they were kept
        leaf_dataset[SampleIndex(0, 0)]
    assert resident_kib() - before < 50_000

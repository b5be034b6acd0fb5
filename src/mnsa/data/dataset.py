"""Row -> Sample -> Batch: the dataset, its sampler, and the data loaders of training and validation.

The order of the images depends on seed and epoch alone, not on worker processes.
B batch; H, W image size; h, w network input size, in pixels; K classes.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.cache import DecodedCache
from mnsa.data.decode import read_mask, read_pixels
from mnsa.data.manifest import Manifest, Row
from mnsa.data.transforms import Transform, eval_transform, train_transform
from mnsa.errors import DataError
from mnsa.structures import Batch, Sample


class SampleIndex(NamedTuple):
    """One visit to one image. It travels to the worker process, so every worker knows the epoch."""

    epoch: int
    row: int


class EpochSampler(Sampler[SampleIndex]):
    """Visits every row once an epoch; with several processes each has its share.

    order: `shuffled` anew each epoch, in shares of equal size (the few images left over differ from epoch to epoch);
    `sequential`: as listed, each image in exactly one process.
    """

    def __init__(self, size: int, *, seed: int, order: Literal["shuffled", "sequential"]) -> None:
        self.size = size
        self.seed = seed
        self.order = order
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0; Lightning calls this, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._rows())

    def __iter__(self) -> Iterator[SampleIndex]:
        return (SampleIndex(self.epoch, int(row)) for row in self._rows())

    def _rows(self) -> np.ndarray:
        rank, world = _rank_and_world_size()
        if self.order == "sequential":
            return np.arange(rank, self.size, world)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        return order[rank : self.size - self.size % world : world]


def sample_seed(seed: int, index: SampleIndex) -> int:
    """Mix seed, epoch and row into the 64-bit seed of one image's random changes."""
    return int(np.random.SeedSequence((seed, *index)).generate_state(1, np.uint64)[0])


def seed_cpu_generator(seed: int) -> None:
    """Seed torch's CPU generator alone: torch.manual_seed would reset a GPU's dropout at every image as well."""
    torch.default_generator.manual_seed(seed)


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class DatasetItem(NamedTuple):
    """One image ready for the network: image float32 (3, h, w), mask int64 (h, w), label."""

    image: Tensor
    mask: Tensor
    label: int


def read_sample(manifest: Manifest, row: Row, *, cache: DecodedCache | None = None) -> Sample:
    """Read an image with its mask and label. cache: where decoded images are found or kept.

    Raises: DataError naming the file, also when mask and image differ in size.
    """
    path = manifest.image_path(row)
    pixels = read_pixels(path) if cache is None else cache.read(path)
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    mask = read_mask(manifest.mask_path(row), len(manifest.mask_classes)) if row.mask else None
    if mask is not None and mask.shape != image.shape[-2:]:
        sizes = f"{tuple(mask.shape)}, its image {row.image} {tuple(image.shape[-2:])}"
        raise DataError(f"Mask {row.mask} has (height, width) {sizes}. They must be equal.")
    return Sample(row.image, image, mask, manifest.label_index(row), row.group or None)


class LeafDataset(Dataset[DatasetItem]):
    """The rows of a manifest, transformed; a SampleIndex's random changes depend on seed, epoch and row alone.

    Raises: DataError when a row has neither label nor mask.
    """

    def __init__(
        self, manifest: Manifest, transform: Transform, *, seed: int, cache: DecodedCache | None = None
    ) -> None:
        for row in manifest.rows:
            if not row.label and not row.mask:
                raise DataError(f"{manifest.name}: {row.image} has neither label nor mask; there is nothing to learn.")
        self.manifest = manifest
        self.transform = transform
        self.seed = seed
        self.cache = cache

    def __len__(self) -> int:
        return len(self.manifest.rows)

    def __getitem__(self, index: SampleIndex) -> DatasetItem:
        sample = read_sample(self.manifest, self.manifest.rows[index.row], cache=self.cache)
        with torch.random.fork_rng(devices=[]):
            seed_cpu_generator(sample_seed(self.seed, index))
            image, mask = self.transform(sample.image, sample.mask)
        return DatasetItem(image, mask, sample.label)


def collate_batch(items: Sequence[DatasetItem]) -> Batch:
    """Stack items of one size into a Batch."""
    images, masks, labels = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.stack(masks), torch.tensor(labels))


class LeafDataModule(LightningDataModule):
    """The training and validation loaders of a manifest; there is no way from here to its test rows.

    mean, std: per channel, for values in 0..1. batch_size: of one process. Raises: DataError when a split is empty.
    """

    def __init__(
        self, manifest: Manifest, data: DataConfig, augment: AugmentConfig, *,
        mean: Sequence[float], std: Sequence[float], batch_size: int, workers: int, seed: int,
        cache: DecodedCache | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        for split in ("train", "val"):
            if not manifest.split(split).rows:
                raise DataError(f"{manifest.name} has no row with split `{split}`. Name some in manifest.csv.")
        train, val = train_transform(data, augment, mean, std), eval_transform(data, mean, std)
        self.train_set = LeafDataset(manifest.split("train"), train, seed=seed, cache=cache)
        self.val_set = LeafDataset(manifest.split("val"), val, seed=seed, cache=cache)
        self.batch_size = batch_size
        self.val_batch_size = 1 if data.resize_mode == "crop" else batch_size  # whole images differ in size
        self.workers = workers

    def train_dataloader(self) -> DataLoader[DatasetItem]:
        """Shuffle anew each epoch. A last, smaller batch is left out: BatchNorm can't learn from a single image."""
        sampler = EpochSampler(len(self.train_set), seed=self.train_set.seed, order="shuffled")
        return self._loader(self.train_set, sampler, self.batch_size, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[DatasetItem]:
        """Keep the manifest's order, without random changes."""
        sampler = EpochSampler(len(self.val_set), seed=self.val_set.seed, order="sequential")
        return self._loader(self.val_set, sampler, self.val_batch_size, drop_last=False)

    def _loader(
        self, dataset: LeafDataset, sampler: EpochSampler, size: int, *, drop_last: bool
    ) -> DataLoader[DatasetItem]:
        return DataLoader(
            dataset, batch_size=size, sampler=sampler, drop_last=drop_last, collate_fn=collate_batch,
            num_workers=self.workers, persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # its own: the global one must not depend on the number of workers
        )  # fmt: skip


def class_weights(manifest: Manifest) -> Tensor:
    """Weigh classes by their inverse frequency in the training rows: float32 (K,).

    The mean over classes that occur is 1; a class that doesn't occur weighs 0.
    """
    labels = [manifest.label_index(row) for row in manifest.split("train").rows if row.label]
    counts = torch.bincount(torch.tensor(labels, dtype=torch.long), minlength=len(manifest.classes)).float()
    weights = torch.where(counts > 0, 1 / counts, 0.0)
    return weights * (counts > 0).sum() / weights.sum()

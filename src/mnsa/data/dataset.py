"""Row -> Sample -> Batch: the loaders of training and validation.

B batch; H, W image size; h, w network input size, in pixels; K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.decoded_cache import DecodedCache
from mnsa.data.images import read_image, read_mask
from mnsa.data.manifest import Manifest, Row
from mnsa.data.sampler import Draw, EpochSampler, draw_seed, seed_cpu
from mnsa.data.transforms import Transform, eval_transform, train_transform
from mnsa.errors import DataError
from mnsa.records import Batch, Sample


class Item(NamedTuple):
    """One image ready for the network: image float32 (3, h, w), mask int64 (h, w), label."""

    image: Tensor
    mask: Tensor
    label: int


def read_sample(manifest: Manifest, row: Row, *, cache: DecodedCache | None = None) -> Sample:
    """Read an image with its mask and label. cache: where decoded images are found or kept.

    Raises: DataError naming the file, also when mask and image differ in size.
    """
    image = read_image(manifest.image_path(row), cache)
    mask = read_mask(manifest.mask_path(row), len(manifest.mask_classes)) if row.mask else None
    if mask is not None and mask.shape != image.shape[-2:]:
        sizes = f"{tuple(mask.shape)}, its image {row.image} {tuple(image.shape[-2:])}"
        raise DataError(f"Mask {row.mask} has (height, width) {sizes}. They must be equal.")
    return Sample(row.image, image, mask, manifest.label_index(row))


class LeafDataset(Dataset[Item]):
    """The rows of a manifest, transformed; a Draw's random changes depend on seed, epoch and row alone.

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

    def __getitem__(self, draw: Draw) -> Item:
        sample = read_sample(self.manifest, self.manifest.rows[draw.row], cache=self.cache)
        with torch.random.fork_rng(devices=[]):
            seed_cpu(draw_seed(self.seed, draw))
            image, mask = self.transform(sample.image, sample.mask)
        return Item(image, mask, sample.label)


def collate(items: Sequence[Item]) -> Batch:
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
        self.val_batch_size = 1 if data.fit == "crop" else batch_size  # whole images differ in size
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Item]:
        """Shuffle anew each epoch. A last, smaller batch is left out: BatchNorm can't learn from a single image."""
        sampler = EpochSampler(len(self.train_set), seed=self.train_set.seed, order="shuffled")
        return self._loader(self.train_set, sampler, self.batch_size, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[Item]:
        """Keep the manifest's order, without random changes."""
        sampler = EpochSampler(len(self.val_set), seed=self.val_set.seed, order="given")
        return self._loader(self.val_set, sampler, self.val_batch_size, drop_last=False)

    def _loader(self, dataset: LeafDataset, sampler: EpochSampler, size: int, *, drop_last: bool) -> DataLoader[Item]:
        return DataLoader(
            dataset, batch_size=size, sampler=sampler, drop_last=drop_last, collate_fn=collate,
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

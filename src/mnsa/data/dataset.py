"""From rows to batches: data set, sampler, and the data loaders of training and validation.

The order of the images depends only on seed and epoch, not on the number of worker processes.
B batch; H, W image size; h, w network input size, in pixels; K classes.
"""

import signal
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from skimage.morphology import skeletonize
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.cache import DecodedCache
from mnsa.data.decode import read_mask, read_pixels
from mnsa.data.manifest import Manifest, Row
from mnsa.data.transforms import Transform, eval_transform, train_transform
from mnsa.errors import DataError
from mnsa.structures import Batch, Sample


class SampleIndex(NamedTuple):
    """Index of an image in an epoch. It is sent to the worker process, so every worker knows the epoch.

    repeat: 0 for the first time that the epoch takes the row, 1 for the second.
    """

    epoch: int
    row: int
    repeat: int = 0


class DatasetItem(NamedTuple):
    """One network input: image float32 (3, h, w), mask int64 (h, w), label, and centerlines bool (h, w) or None."""

    image: Tensor
    mask: Tensor
    label: int
    centerlines: Tensor | None = None


class EpochSampler(Sampler[SampleIndex]):
    """Yields the index of every row per epoch. With distributed training, each process gets a part of the rows.

    size: number of rows. repeats: how many times an epoch takes each row. order: `shuffled`: in another order each
    epoch; all processes get equally many rows, and the few rows left over change from epoch to epoch. `sequential`: in
    order; every row is in exactly one process. classes: int (N,) of the rows, -1 for none; a shuffled epoch then has
    equally many of every class, and takes a row as often as its share says, rounded up or down at random.
    """

    def __init__(
        self, size: int, *, seed: int, order: Literal["shuffled", "sequential"], repeats: int = 1,
        classes: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.size = size
        self.repeats = repeats
        self.seed = seed
        self.order = order
        self.classes = classes
        self.epoch = 0
        self._first = (0, 0)  # epoch, and how many of its indices have been used before

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0. Lightning calls this, also after a resume."""
        self.epoch = epoch

    def start_at(self, epoch: int, used: int) -> None:
        """Set the first epoch, and how many of its indices this process has used before a resume."""
        self.epoch, self._first = epoch, (epoch, used)

    def __len__(self) -> int:
        return len(self._order())

    def __iter__(self) -> Iterator[SampleIndex]:
        used = self._first[1] if self.epoch == self._first[0] else 0
        return (SampleIndex(self.epoch, int(n % self.size), int(n // self.size)) for n in self._order()[used:])

    def _order(self) -> np.ndarray:
        """The process's part of 0 .. size * repeats - 1, in its order."""
        (rank, world_size), count = rank_and_world_size(), self.size * self.repeats
        if self.order == "sequential":
            return np.arange(rank, count, world_size)
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(count)
        if self.classes is not None:  # systematic sampling, class by class, of rows in random order
            rows = generator.permutation(self.size)
            rows = rows[np.argsort(self.classes[rows], kind="stable")]
            ends = np.cumsum(class_shares(self.classes)[rows])
            taken = np.diff(np.floor(ends / ends[-1] * count + generator.random()), prepend=0.0).astype(int)
            repeated = [row + self.size * n for row, times in zip(rows, taken, strict=True) for n in range(times)]
            order = np.array(repeated)[order]
        return order[rank : count - count % world_size : world_size]


class LeafDataset(Dataset[DatasetItem]):
    """The images of a manifest, transformed. The random augmentation of an index depends on seed, epoch and row only.

    thin_classes: mask values whose centerlines an item has; empty: none are computed. in_progress: int64 (workers,) in
    shared memory, the row that each process loads or has loaded last.
    Raises: DataError when a row has neither label nor mask.
    """

    def __init__(
        self, manifest: Manifest, transform: Transform, *, seed: int, cache: DecodedCache | None = None,
        thin_classes: Sequence[int] = (),
    ) -> None:  # fmt: skip
        for row in manifest.rows:
            if not row.label and not row.mask:
                raise DataError(
                    f"{manifest.name}: {row.image} has neither label nor mask. Add one, or empty its split."
                )
        self.manifest = manifest
        self.transform = transform
        self.seed = seed
        self.cache = cache
        self.thin_classes = thin_classes
        self.in_progress: Tensor | None = None

    def __len__(self) -> int:
        return len(self.manifest.rows)

    def __getitem__(self, index: SampleIndex) -> DatasetItem:
        worker = get_worker_info()
        if worker is not None and self.in_progress is not None:
            self.in_progress[worker.id] = index.row
        sample = read_sample(self.manifest, self.manifest.rows[index.row], cache=self.cache)
        with torch.random.fork_rng(devices=[]):
            seed_cpu_generator(sample_seed(self.seed, index))
            image, mask = self.transform(sample.image, sample.mask)
        centerlines = find_centerlines(mask, self.thin_classes) if self.thin_classes else None
        return DatasetItem(image, mask, sample.label, centerlines)


class LeafDataModule(LightningDataModule):
    """The data loaders of training and validation. It has no access to the test rows.

    mean, std: per channel, for pixel values in 0..1. batch_size: per process. thin_classes: mask values whose
    centerlines a training batch has. first_epoch, first_batch: counted from 0; processes load its first images before
    anyone else could tell them the epoch. timeout_s: longest time that processes may take for a batch, in seconds; 0:
    no limit. balanced: an epoch has equally many images of each class.
    Raises: DataError when there are no training or no validation rows.
    """

    def __init__(
        self, manifest: Manifest, data: DataConfig, augment: AugmentConfig, *,
        mean: Sequence[float], std: Sequence[float], batch_size: int, workers: int, seed: int,
        cache: DecodedCache | None = None, thin_classes: Sequence[int] = (), first_epoch: int = 0,
        first_batch: int = 0, timeout_s: float = 0.0, balanced: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        for split in ("train", "val"):
            if not manifest.split(split).rows:
                raise DataError(f"{manifest.name} has no row with split `{split}`. Assign some in manifest.csv.")
        train, val = train_transform(data, augment, mean, std), eval_transform(data, mean, std)
        self.train_set = LeafDataset(manifest.split("train"), train, seed=seed, cache=cache, thin_classes=thin_classes)
        self.val_set = LeafDataset(manifest.split("val"), val, seed=seed, cache=cache)
        self.batch_size = batch_size
        self.crops_per_epoch = data.crops_per_epoch
        self.val_batch_size = 1 if data.resize_mode == "crop" else batch_size  # whole images have different sizes
        self.workers = workers
        self.first_epoch, self.first_batch = first_epoch, first_batch
        self.balanced = balanced
        self.timeout_s = timeout_s

    def train_dataloader(self) -> DataLoader[DatasetItem]:
        """Shuffled batches. A smaller last batch is dropped, because BatchNorm needs more than one image."""
        size, seed = len(self.train_set), self.train_set.seed
        repeats = -(-self.crops_per_epoch // size)
        manifest = self.train_set.manifest
        labels = [manifest.label_index(row) if row.label else -1 for row in manifest.rows]
        classes = np.array(labels) if self.balanced else None
        sampler = EpochSampler(size, seed=seed, order="shuffled", repeats=repeats, classes=classes)
        sampler.start_at(self.first_epoch, self.first_batch * self.batch_size)
        return self._make_loader(self.train_set, sampler, self.batch_size, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[DatasetItem]:
        """Batches in the manifest's order, without augmentation."""
        sampler = EpochSampler(len(self.val_set), seed=self.val_set.seed, order="sequential")
        return self._make_loader(self.val_set, sampler, self.val_batch_size, drop_last=False)

    def rows_in_progress(self) -> list[str]:
        """Name the images that the processes load or have loaded last."""
        return [
            dataset.manifest.rows[row].image
            for dataset in (self.train_set, self.val_set)
            if dataset.in_progress is not None
            for row in dataset.in_progress.tolist()
            if row >= 0
        ]

    def _make_loader(
        self, dataset: LeafDataset, sampler: EpochSampler, batch_size: int, *, drop_last: bool
    ) -> DataLoader[DatasetItem]:
        if self.workers:
            dataset.in_progress = torch.full((self.workers,), -1).share_memory_()
        return DataLoader(
            dataset, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=collate_batch,
            num_workers=self.workers, persistent_workers=self.workers > 0, worker_init_fn=_ignore_stop_signals,
            timeout=self.timeout_s if self.workers else 0,
            generator=torch.Generator(),  # else the state of the global generator depends on the number of workers
        )  # fmt: skip


def read_sample(manifest: Manifest, row: Row, *, cache: DecodedCache | None = None) -> Sample:
    """Read an image with its mask and label. cache: used to decode each image only once.

    Raises: DataError with the file, also when mask and image differ in size.
    """
    path = manifest.image_path(row)
    pixels = read_pixels(path) if cache is None else cache.read(path)
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    mask = read_mask(manifest.mask_path(row), len(manifest.mask_classes)) if row.mask else None
    if mask is not None and mask.shape != image.shape[-2:]:
        sizes = f"{tuple(mask.shape)}, its image {row.image} {tuple(image.shape[-2:])}"
        raise DataError(f"Mask {row.mask} has (height, width) {sizes}. They must be equal.")
    return Sample(row.image, image, mask, manifest.label_index(row), row.group or None)


def collate_batch(items: Sequence[DatasetItem]) -> Batch:
    """Stack items of equal size: images float32 (B, 3, h, w), masks int64 (B, h, w), labels int64 (B,).

    Centerlines bool (B, h, w) if the items have them.
    """
    images, masks, labels, lines = zip(*items, strict=True)
    centerlines = None if lines[0] is None else torch.stack(lines)
    return Batch(torch.stack(images), torch.stack(masks), torch.tensor(labels), centerlines)


def find_centerlines(mask: Tensor, classes: Sequence[int]) -> Tensor:
    """Find the centerlines of these classes in a mask (H, W), each class alone: bool (H, W).

    It is done after augmentation, because a rotated or scaled centerline has gaps. Lee's thinning keeps the topology.
    """
    values, centerlines = mask.numpy(), np.zeros(mask.shape, dtype=bool)
    for value in classes:
        if (structure := values == value).any():
            centerlines |= skeletonize(structure, method="lee").astype(bool)
    return torch.from_numpy(centerlines)


def sample_seed(seed: int, index: SampleIndex) -> int:
    """Combine seed, epoch, row and repeat to the 64-bit seed of one image's augmentation."""
    return int(np.random.SeedSequence((seed, *index)).generate_state(1, np.uint64)[0])


def seed_cpu_generator(seed: int) -> None:
    """Seed torch's CPU generator only. torch.manual_seed would also repeat a GPU's dropout masks for every image."""
    torch.default_generator.manual_seed(seed)


def class_weights(manifest: Manifest) -> Tensor:
    """Weight the classes by their inverse frequency in the training rows: float32 (K,).

    The mean over the classes with images is 1; a class without images has weight 0.
    """
    labels = [manifest.label_index(row) for row in manifest.split("train").rows if row.label]
    counts = torch.bincount(torch.tensor(labels, dtype=torch.long), minlength=len(manifest.classes)).float()
    weights = torch.where(counts > 0, 1 / counts, 0.0)
    return weights * (counts > 0).sum() / weights.sum()


def class_shares(classes: np.ndarray) -> np.ndarray:
    """Return the share of each row in an epoch with equally many images of every class: float64 (N,), sums to 1.

    classes: int (N,) of the rows; -1: without a label, which keep their share of all rows.
    """
    values, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    labeled = int((classes >= 0).sum())
    shares = np.where(values >= 0, labeled / max(1, int((values >= 0).sum())), counts) / len(classes) / counts
    return np.asarray(shares[places])


def _ignore_stop_signals(_worker: int) -> None:
    """Leave it to the first process to stop: signals for a whole process group would end this one before."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def rank_and_world_size() -> tuple[int, int]:
    """Return the number of this process, and the number of processes that train together: 0 and 1 if it is alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1

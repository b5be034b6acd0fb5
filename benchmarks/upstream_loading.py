"""Loading as in the upstream code, written from its description: everything in memory, then PIL and tensors.

Every image and mask is decoded once and kept in memory. An item is flipped by Pillow, turned into a tensor, zero-padded
right and bottom, and cropped at random. Source: method section 2.
"""

import random
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.transforms import functional as TF


class HeldImages(Dataset[tuple[Tensor, Tensor, int]]):
    """Images with masks and labels, all of them in memory."""

    def __init__(self, rows: list[tuple[Path, Path, int]], size: int) -> None:
        self.items = [(Image.open(i).convert("RGB"), Image.open(m).convert("L"), label) for i, m, label in rows]
        self.size = size

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        image, mask, label = self.items[index]
        if random.random() < 0.5:
            image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
        pixels, truth = TF.to_tensor(image), TF.to_tensor(mask)
        beyond = (0, max(0, self.size - image.width), 0, max(0, self.size - image.height))
        pixels, truth = F.pad(pixels, beyond), F.pad(truth, beyond)
        top = int(torch.randint(pixels.shape[1] - self.size + 1, ()))
        left = int(torch.randint(pixels.shape[2] - self.size + 1, ()))
        window = slice(top, top + self.size), slice(left, left + self.size)
        return pixels[:, *window], truth[0][window], label

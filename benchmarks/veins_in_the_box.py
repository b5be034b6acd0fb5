"""Make the model folder of the package, src/mnsa/weights/veins, from a finished run: weights in float16, and a card.

Claim: `mnsa.load("veins")` finds what the run finds: both masks of an image have an IoU of at least 0.98.
Command: `mnsa train configs/veins_pretrain.toml --data LEAVES --out RUN; mnsa evaluate RUN`, then
`python benchmarks/veins_in_the_box.py RUN [--photos PATH_TO/tomato_veins]`. With photos, the card has their scores
(`benchmarks/veins.py`). The folder must not exist: `git rm -r src/mnsa/weights/veins` removes an earlier one.
Expect: size of the weights (at most 12 MB), mean IoU of the masks of run and package, and the card.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import mnsa
from mnsa.data.manifest import read_manifest
from mnsa.errors import DataError, MnsaError, ModelError
from mnsa.hub.model_card import score_table
from mnsa.inference.postprocessing_file import load_postprocessing, save_postprocessing
from mnsa.inference.predictor import load
from mnsa.io import new_folder
from mnsa.model_folder import load_network, network_table
from mnsa.run_folder import RunFolder, open_run_folder, read_run_dataset, weights_digest
from mnsa.weights import FOLDER, VEINS, WEIGHTS_FILE
from veins import evaluate, markdown

MAX_BYTES = 12_000_000
MIN_IOU = 0.98
IMAGES = 8  # of the run's validation images, on which masks are compared
LICENSE = "apache-2.0"
_REAL = "\n\nReal leaves that it has never seen, with masks of their main veins:\n\n"


def main() -> None:
    """Write the folder, compare it with the run, and print its card."""
    options = _options()
    folder = pack(options.run, options.out, options.photos)
    print(f"{folder}: {(folder / WEIGHTS_FILE).stat().st_size / 1e6:.2f} MB\n")
    print((folder / "README.md").read_text(encoding="utf-8"))


def pack(path: Path, out: Path, photos: Path | None = None) -> Path:
    """Write the network of a run as a model folder of the package. Returns: `out`, which must be new.

    Raises: ModelError when the network has other outputs than veins, is too large, or loses its masks in float16.
    """
    run = open_run_folder(path)
    _, spec = load_network(path)
    if spec.classes or spec.mask_classes != ("vein",) or spec.data.resize_mode != "crop":
        raise ModelError(f"{path} is no network of veins alone that keeps the scale. Use configs/veins_pretrain.toml.")
    with new_folder(out) as folder:
        shutil.copyfile(run.model_folder / "config.json", folder / "config.json")
        save_file(to_float16(load_file(run.model_folder / WEIGHTS_FILE)), folder / WEIGHTS_FILE)
        (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors writes for the owner alone
        if (size := (folder / WEIGHTS_FILE).stat().st_size) > MAX_BYTES:
            raise ModelError(f"The weights have {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} MB fit the package.")
        fitted = load_postprocessing(path, spec.mask_classes)
        if fitted is not None:
            save_postprocessing(folder, replace(fitted, dataset="", weights_sha256=weights_digest(folder)))
        iou = mask_iou(run, folder)
        if iou is not None and iou < MIN_IOU:
            raise ModelError(f"In float16, the masks have an IoU of {iou:.3f} with those of the run.")
        (folder / "README.md").write_text(card(run, folder, iou, photos), encoding="utf-8")
    return out


def to_float16(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Round weights to float16; integers, and variances of BatchNorms, which can be too large or too small, stay.

    Raises: ModelError when another weight is too large.
    """
    rounded = {
        name: value.half() if value.is_floating_point() and not name.endswith("running_var") else value
        for name, value in weights.items()
    }
    if overflow := [name for name, value in rounded.items() if not value.isfinite().all()]:
        raise ModelError(f"{overflow[0]} has values that float16 can't hold.")
    return rounded


def mask_iou(run: RunFolder, folder: Path) -> float | None:
    """Mean IoU of the masks of run and package on validation images; None when the run's data set is not there."""
    try:
        manifest = read_manifest(read_run_dataset(run)[0])
    except MnsaError:
        return None
    ours, theirs, scores = load(run.path), load(folder), list[float]()
    for row in manifest.split("val").rows[:IMAGES]:
        try:
            masks = [np.asarray(one.predict(manifest.image_path(row)).mask) == 1 for one in (ours, theirs)]
        except DataError:
            return None
        union = np.count_nonzero(masks[0] | masks[1])
        scores.append(np.count_nonzero(masks[0] & masks[1]) / union if union else 1.0)
    return float(np.mean(scores)) if scores else None


def card(run: RunFolder, folder: Path, iou: float | None, photos: Path | None) -> str:
    """The text of README.md."""
    _, spec = load_network(folder)
    same = "not compared" if iou is None else f"IoU {iou:.4f} on drawn validation images"
    real = "" if photos is None else _REAL + markdown({"auto": evaluate(str(folder), photos, "auto")})
    return f"""---
library_name: mnsa
tags: [mnsa, leaf, plant-phenotyping, leaf-venation, image-segmentation]
license: {LICENSE}
pipeline_tag: image-segmentation
---
# Veins of any leaf

The network of `mnsa veins`: it finds veins in photos and scans of leaves of any species, without training. Made with
mnsa {mnsa.__version__} by `configs/veins_pretrain.toml`.

{network_table(spec, weights_digest(folder))}

Weights are stored in float16, and read as float32. Masks of both precisions: {same}.

## Data

Drawn leaves alone (`mnsa synth --kind varied --max-order 2`), whose masks are known exactly: main veins, of orders 1
and 2. No photo of a leaf was used to train, nor to choose an epoch or a threshold. The backbone began with ImageNet
weights. The one number that photos chose is the usual size of an input of `--scale auto`, 640 px.

## Scores

{score_table(run)}{real}

## Limits

- Main veins only: midrib, secondary veins and what looks like them. Finer veins are mostly left out, so areoles are not
  those of the leaf.
- Veins that are thinner than about a pixel, out of focus or without contrast are not found.
- It looks for a scale at which veins are 2 to 6 px wide (`--scale auto`). If overlays show it is wrong, give a factor.
- `confidence` is the Dice score that the network expects of its own mask. It is no proof: cracks, roots, nets and
  letters look like veins. A `warning` means that no leaf was found, or that veins can't be seen.
- It has no mask of the leaf. Density is then per convex hull of the veins.
- For numbers in a paper, compare some leaves with veins drawn by hand, or train on them: `pretrained = "veins"`.

## Usage

```sh
mnsa veins photos/ --px-per-mm 23.6 --out veins
```

```python
import mnsa

prediction = mnsa.load("veins").predict("leaf.jpg")
```

## License

{LICENSE}, like mnsa.
"""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run of configs/veins_pretrain.toml")
    parser.add_argument("--out", type=Path, default=FOLDER / VEINS, help="new folder")
    parser.add_argument("--photos", type=Path, help="folder with images/ and masks/ whose scores are in the card")
    return parser.parse_args()


if __name__ == "__main__":
    main()

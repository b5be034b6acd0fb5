"""The peer: segmentation_models.pytorch's U-Net with a classification head, trained by a common recipe.

Claim: none; `coffee.py --peer` compares it with mnsa. Both share the encoder (EfficientNet-Lite0) and its
ImageNet weights, the images and their flips, the batch size, the rule that selects the epoch (best mean of accuracy and
foreground IoU on validation) and the scorer. Decoder, heads, losses, optimizer and schedule differ.
Command: `python benchmarks/coffee_peer.py --data coffee --seed 1 --out peer.json` (needs `pip install -e '.[bench]'`)
Expect: a JSON file with the seconds of training and the scores of val, test and both.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.dataset import LeafDataModule
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.transforms import eval_transform
from mnsa.metrics.torch_metrics import ValidationScores
from mnsa.model.weights import bundled_weights
from mnsa.structures import Batch, Prediction, Sample
from scoring import SPLITS, score

ENCODER = "tf_efficientnet_lite0"
CFG = timm.get_pretrained_cfg(ENCODER)  # what the weights were trained on
MEAN, STD = CFG.mean, CFG.std
DATA = DataConfig(size=(256, 512))  # the images' own size
AUGMENT = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5)
BATCH = 16
ENCODER_LR, OTHER_LR = 3e-4, 1e-3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Train, score, write."""
    options = _options()
    torch.manual_seed(options.seed)
    manifest = read_manifest(options.data)
    model = build(len(manifest.classes), len(manifest.mask_classes)).to(DEVICE)
    start = time.perf_counter()
    train(model, manifest, seed=options.seed, epochs=options.epochs, bf16=options.bf16)
    seconds = time.perf_counter() - start
    scores = {splits: score(predictor(model), manifest, splits) for splits in SPLITS}
    options.out.write_text(json.dumps({"train_seconds": seconds, "scores": scores}, indent=2) + "\n", encoding="utf-8")


def build(classes: int, mask_classes: int) -> smp.Unet:
    """Make the U-Net; its encoder starts from the same weights as mnsa's backbone."""
    model = smp.Unet(f"tu-{ENCODER}", encoder_weights=None, classes=mask_classes, aux_params={"classes": classes})
    encoder, weights = model.encoder.model, bundled_weights(ENCODER)
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return model


def train(model: smp.Unet, manifest: Manifest, *, seed: int, epochs: int, bf16: bool) -> None:
    """Train by AdamW and one cycle over all steps; afterwards the model is that of its best epoch."""
    loaders = LeafDataModule(manifest, DATA, AUGMENT, mean=MEAN, std=STD, batch_size=BATCH, workers=0, seed=seed)
    batches = loaders.train_dataloader()
    optimizer = torch.optim.AdamW(parameter_groups(model))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[ENCODER_LR, OTHER_LR], total_steps=epochs * len(batches)
    )
    dice: Loss = smp.losses.DiceLoss(mode="multiclass")
    best, best_state = -1.0, model.state_dict()
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)
        model.train()
        for batch in batches:
            optimizer.zero_grad()
            loss = loss_of(model, batch.to(DEVICE), dice, bf16=bf16)
            loss.backward()
            optimizer.step()
            schedule.step()
        reached = validate(model, loaders, len(manifest.mask_classes))
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, validation {reached:.4f}", flush=True)
        if reached > best:
            best, best_state = reached, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)


def parameter_groups(model: smp.Unet) -> list[dict[str, object]]:
    """Split into the encoder and the rest, in the order of the schedule's learning rates."""
    encoder = list(model.encoder.parameters())
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    return [{"params": encoder, "lr": ENCODER_LR}, {"params": others, "lr": OTHER_LR}]


def loss_of(model: smp.Unet, batch: Batch, dice: Loss, *, bf16: bool) -> Tensor:
    """Add up cross-entropy and Dice of the masks, and cross-entropy of the labels."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
        mask_logits, class_logits = model(batch.images)
    mask_logits, class_logits = mask_logits.float(), class_logits.float()
    mask_loss = F.cross_entropy(mask_logits, batch.masks) + dice(mask_logits, batch.masks)
    return mask_loss + F.cross_entropy(class_logits, batch.labels)


def validate(model: smp.Unet, loaders: LeafDataModule, mask_classes: int) -> float:
    """Score an epoch by the mean of accuracy and foreground IoU, as mnsa does to pick its epoch."""
    scores = ValidationScores(mask_classes)
    model.eval()
    with torch.inference_mode():
        for batch in loaders.val_dataloader():
            mask_logits, class_logits = model(batch.images.to(DEVICE))
            scores.update(class_logits.cpu(), batch.labels, mask_logits.argmax(1).cpu(), batch.masks)
    return float(scores.compute()["score"])


def predictor(model: smp.Unet) -> Callable[[Sample], Prediction]:
    """Predict one sample at its own size."""
    transform = eval_transform(DATA, MEAN, STD)
    model.eval()

    def predict(sample: Sample) -> Prediction:
        with torch.inference_mode():
            image, _ = transform(sample.image)
            mask_logits, class_logits = model(image[None].to(DEVICE))
            sized = F.interpolate(mask_logits, sample.image.shape[-2:], mode="bilinear")
        probs, mask = class_logits[0].softmax(0), sized[0].argmax(0).to(torch.uint8)
        return Prediction(sample.path, probs.cpu().numpy(), mask.cpu().numpy(), attention=None)

    return predict


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv and dataset.toml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--bf16", action="store_true", help="mixed precision, as configs/coffee.toml trains")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()

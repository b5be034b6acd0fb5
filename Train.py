"""The commands of the paper: translates them into `mnsa` commands, prints these and runs them.

python -u Train.py --mmanet --cls_ild --dataparallel --data_dir ./data --backbone_class 'densenet161'
python -u Train.py --mmanet --seg_ild --freeze_all --dataparallel --data_dir ./data --backbone_class 'densenet161' \
    --model_path ./best_model.pth --unet --transfer_to 0.250

The first writes ./best_model.pth, which the second reads. docs/background/reproducing.md explains the options.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent / "configs" / "paper"
RUNS = Path("runs")
WEIGHTS = Path("best_model.pth")
MASK_GUIDANCE = 0.1  # loss weight of MGANet


def main(argv: list[str] | None = None) -> int:
    """Import the data set if needed, train, and save the weights for stage 2. Returns: the exit code."""
    options = parse(argv)
    task = find_task(options)
    source, data = Path(options.data_dir) / options.dataset, RUNS / "data" / options.dataset
    run = RUNS / f"{options.dataset}-{options.backbone_class}-{task}"
    outputs = [run, WEIGHTS] if task == "classification" else [run]
    if existing := [str(path) for path in outputs if path.exists()]:
        print(f"Error: {' and '.join(existing)} exist already. Nothing was changed. Move them away.", file=sys.stderr)
        return 2
    if not data.exists() and (code := run_mnsa("import", find_format(source), str(source), "--out", str(data))):
        return code
    gpus = count_gpus()
    processes = max(1, gpus) if options.dataparallel else 1
    overrides = to_overrides(options, gpus=gpus, processes=processes)
    set_options = [part for key, value in overrides.items() for part in ("--set", f"{key}={to_toml(value)}")]
    devices = ["--devices", str(processes)] if processes > 1 else []
    config = str(CONFIGS / f"{task}.toml")
    if code := run_mnsa("train", config, "--data", str(data), "--out", str(run), *set_options, *devices):
        return code
    if task == "classification":
        save_weights(run)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the options of the published code. Unknown options, and options without an equivalent, are errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )

    def switch(name: str, meaning: str) -> None:
        parser.add_argument(name, action="store_true", help=meaning)

    add = parser.add_argument
    switch("--mmanet", "attention from the channels' mean and maximum (the paper's network)")
    switch("--manet", "attention from the channels' mean; without --mmanet and --manet: no attention")
    switch("--maskguided", "mask guidance of MGANet: adds 0.1 * MSE(attention, mask) to the loss")
    switch("--cls_ild", "stage 1: classification")
    switch("--seg_ild", "stage 2: segmentation; with both or neither of the two: both tasks")
    switch("--freeze_all", "freeze the backbone; required in stage 2, as in the paper")
    switch("--unet", "enhanced U-Net decoder; without it U-Net 3+")
    add("--transfer_to", type=float, default=0.25, help="skip ratio: 0, 0.125, 0.25 or 0.5")
    switch("--fsds", "deep supervision of the decoder levels")
    add("--data_dir", default="./data", help="folder with data sets")
    add("--dataset", default="soybean_2_1", help="data set in this folder, in the format of MGANet or UFG")
    add("--num_classes", type=int, help="expected number of classes; another number in the data is an error")
    add("--seg_size", type=int, default=448, help="side of the crops, in pixels")
    add(
        "--backbone_class",
        default="densenet161",
        help="backbone of the paper, or a timm model with five feature levels",
    )
    add(
        "--pretrained",
        default="imagenet",
        help="imagenet, bundled, none or a file (not in the published code)",
    )
    add("--model_path", help="initial weights: ./best_model.pth, a published checkpoint, or a run folder")
    add("--lr", type=float, help="learning rate; default 0.05, and 0.02 for U-Net 3+")
    add("--max_epoch", type=int, default=150, help="epochs")
    add("--batch_size", type=int, help="images per step over all GPUs; default 32 in stage 1, otherwise 8")
    switch("--amp", "mixed precision: float16 on a GPU, bfloat16 on a CPU")
    switch("--dataparallel", "use all GPUs, with a process each")
    add("--deform_expan", type=float, help="not supported: see docs/background/reproducing.md")
    add("--att_from", type=int, help="not supported: see docs/background/reproducing.md")
    add("--local_train", type=int, default=0, help="only 0; 1 is not supported: see docs/background/reproducing.md")
    options = parser.parse_args(argv)
    if message := find_error(options):
        parser.error(message)
    return options


def find_error(options: argparse.Namespace) -> str | None:
    """Return why the options can't be used together, or None."""
    errors = {
        "--deform_expan belongs to an earlier decoder; the branch widths are model.widths in the config":
            options.deform_expan is not None,
        "--att_from belongs to an earlier network; attention is only at the deepest level":
            options.att_from is not None,
        "--local_train 1 means folders on the authors' machine; give your folder with --data_dir": options.local_train,
        "--mmanet and --manet are two kinds of attention; give one of them": options.mmanet and options.manet,
        "--maskguided needs attention; add --mmanet or --manet":
            options.maskguided and not (options.mmanet or options.manet),
        "--seg_ild starts from the weights of stage 1; add --model_path ./best_model.pth":
            find_task(options) == "segmentation" and not options.model_path,
        "--seg_ild without --freeze_all would change the backbone of the classifier; give both or neither":
            find_task(options) == "segmentation" and not options.freeze_all,
        "--freeze_all leaves only the decoder to train; add --seg_ild":
            find_task(options) != "segmentation" and options.freeze_all,
    }  # fmt: skip
    return next((message for message, applies in errors.items() if applies), None)


def find_task(options: argparse.Namespace) -> str:
    """Return the task, which is the name of its config in configs/paper/."""
    if options.cls_ild == options.seg_ild:
        return "joint"
    return "classification" if options.cls_ild else "segmentation"


def to_overrides(options: argparse.Namespace, *, gpus: int, processes: int) -> dict[str, object]:
    """Translate the options into config keys and values."""
    task = find_task(options)
    default_lr = 0.05 if options.unet or task == "classification" else 0.02
    overrides: dict[str, object] = {
        "data.size": [options.seg_size, options.seg_size],
        "model.backbone": options.backbone_class,
        "model.pretrained": options.pretrained,
        "model.attention": "mean_max" if options.mmanet else "mean" if options.manet else "none",
        "loss.mask_guidance": MASK_GUIDANCE if options.maskguided else 0.0,
        f"stages.{task}.epochs": options.max_epoch,
        f"stages.{task}.batch_size": (options.batch_size or (32 if task == "classification" else 8)) // processes,
        f"stages.{task}.lr": options.lr or default_lr,
    }
    if options.num_classes:
        overrides["model.classes"] = options.num_classes
    if options.model_path:
        overrides["train.init_from"] = options.model_path
    if options.amp:
        overrides["train.precision"] = "float16" if gpus else "bfloat16"
    if task != "classification":
        overrides |= {"model.skip_ratio": options.transfer_to, "loss.deep_supervision": options.fsds}
    if task != "classification" and not options.unet:
        parts = ["backbone_deep", "attention", "class_head"] if task == "joint" else []
        overrides |= {"model.decoder": "unet3plus", f"stages.{task}.trainable": [*parts, "decoder"]}
    return overrides


def to_toml(value: object) -> str:
    """Format a value as TOML. Lists, numbers and booleans are the same as in JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def find_format(source: Path) -> str:
    """Return the importer: UFG data sets have a folder anno/, SoyAgeing one per stage."""
    return "ufg" if any(source.glob("anno")) or any(source.glob("*/anno")) else "mganet"


def count_gpus() -> int:
    """Return the number of GPUs."""
    import torch  # not at the top, so that --help is fast

    return torch.cuda.device_count()


def run_mnsa(*arguments: str) -> int:
    """Print and run an mnsa command. Returns: its exit code."""
    print("+", shlex.join(["mnsa", *arguments]), flush=True)
    return subprocess.run([sys.executable, "-m", "mnsa", *arguments], check=False).returncode


def save_weights(run: Path) -> None:
    """Write the weights of a run to ./best_model.pth, where stage 2 reads them."""
    import torch
    from safetensors.torch import load_file

    torch.save({"net": load_file(run / "model" / "model.safetensors")}, WEIGHTS)
    print(f"Weights for stage 2: ./{WEIGHTS}")


if __name__ == "__main__":
    sys.exit(main())

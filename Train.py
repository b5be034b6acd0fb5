"""The paper's own command: prints the `mnsa` commands that it stands for, and runs them.

python -u Train.py --mmanet --cls_ild --dataparallel --data_dir ./data --backbone_class 'densenet161'
python -u Train.py --mmanet --seg_ild --freeze_all --dataparallel --data_dir ./data --backbone_class 'densenet161' \
    --model_path ./best_model.pth --unet --transfer_to 0.250

The first writes ./best_model.pth, which the second reads. docs/background/reproducing.md says what each option means here.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent / "configs" / "paper"
RUNS = Path("runs")
BEST = Path("best_model.pth")
GUIDANCE = 0.1  # weight of MGANet's mask guidance


def main(argv: list[str] | None = None) -> int:
    """Import the data set where that isn't done, train, keep the weights for stage 2. Returns: the exit code."""
    options = parse(argv)
    task = task_of(options)
    source, data = Path(options.data_dir) / options.dataset, RUNS / "data" / options.dataset
    run = RUNS / f"{options.dataset}-{options.backbone_class}-{task}"
    made = [run, BEST] if task == "classification" else [run]
    if present := [str(path) for path in made if path.exists()]:
        print(f"Error: {' and '.join(present)} exist already; nothing was touched. Move them away.", file=sys.stderr)
        return 2
    if not data.exists() and (code := mnsa("import", layout_of(source), str(source), "--out", str(data))):
        return code
    gpus = visible_gpus()
    processes = max(1, gpus) if options.dataparallel else 1
    settings = settings_of(options, gpus=gpus, processes=processes)
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={toml(value)}")]
    devices = ["--devices", str(processes)] if processes > 1 else []
    if code := mnsa("train", str(CONFIGS / f"{task}.toml"), "--data", str(data), "--out", str(run), *given, *devices):
        return code
    if task == "classification":
        keep_best(run)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the released parser's options. An unknown one is an error, and so is one that can't mean anything here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )

    def switch(name: str, meaning: str) -> None:
        parser.add_argument(name, action="store_true", help=meaning)

    add = parser.add_argument
    switch("--mmanet", "attention from the channels' mean and maximum (the paper's network)")
    switch("--manet", "attention from their mean alone; neither of the two: no attention")
    switch("--maskguided", "MGANet's guidance: 0.1 * MSE(attention, mask) joins the loss")
    switch("--cls_ild", "stage 1, classification alone")
    switch("--seg_ild", "stage 2, segmentation alone; neither of the two, or both: both tasks at once")
    switch("--freeze_all", "the backbone stays as it is; needed in stage 2, as the paper does it")
    switch("--unet", "the enhanced U-Net decoder; without it U-Net 3+")
    add("--transfer_to", type=float, default=0.25, help="skip ratio: 0, 0.125, 0.25 or 0.5")
    switch("--fsds", "deep supervision of the decoder's levels")
    add("--data_dir", default="./data", help="folder of data sets")
    add("--dataset", default="soybean_2_1", help="one of them, in MGANet's or the UFG layout")
    add("--num_classes", type=int, help="refuse data with another number of classes; the data say it themselves")
    add("--seg_size", type=int, default=448, help="side of the crops; the mask is learnt at half of it")
    add("--backbone_class", default="densenet161", help="one of the paper's, or any timm model with the right strides")
    add(
        "--pretrained",
        default="imagenet",
        help="imagenet, bundled, none or a file (new here)",
    )
    add("--model_path", help="where to start: ./best_model.pth, a released checkpoint, or a run folder")
    add("--lr", type=float, help="0.05; 0.02 for U-Net 3+")
    add("--max_epoch", type=int, default=150, help="epochs")
    add("--batch_size", type=int, help="images in a step over all GPUs: 32 in stage 1, else 8")
    switch("--amp", "mixed precision: float16 on GPUs, bfloat16 without")
    switch("--dataparallel", "all GPUs, a process each")
    add("--deform_expan", type=float, help="refused: see docs/background/reproducing.md")
    add("--att_from", type=int, help="refused: see docs/background/reproducing.md")
    add("--local_train", type=int, default=0, help="only 0; 1 is refused: see docs/background/reproducing.md")
    options = parser.parse_args(argv)
    if fault := fault_of(options):
        parser.error(fault)
    return options


def fault_of(options: argparse.Namespace) -> str | None:
    """Say why these options can't be followed."""
    faults = {
        "--deform_expan belongs to an earlier decoder; the width of each branch is model.widths of the config":
            options.deform_expan is not None,
        "--att_from belongs to an earlier network; attention stands on the deepest level alone":
            options.att_from is not None,
        "--local_train 1 chose folders on the authors' machine; give yours with --data_dir": options.local_train,
        "--mmanet and --manet are two kinds of attention; give one": options.mmanet and options.manet,
        "--maskguided guides an attention; give --mmanet or --manet with it":
            options.maskguided and not (options.mmanet or options.manet),
        "--seg_ild starts from what stage 1 has learnt; give --model_path ./best_model.pth":
            task_of(options) == "segmentation" and not options.model_path,
        "--seg_ild without --freeze_all would change the backbone under the classifier; give both, or neither":
            task_of(options) == "segmentation" and not options.freeze_all,
        "--freeze_all leaves nothing to learn but a decoder; give --seg_ild with it":
            task_of(options) != "segmentation" and options.freeze_all,
    }  # fmt: skip
    return next((fault for fault, holds in faults.items() if holds), None)


def task_of(options: argparse.Namespace) -> str:
    """Name what is learnt, and the config in configs/paper/ for it."""
    if options.cls_ild == options.seg_ild:
        return "joint"
    return "classification" if options.cls_ild else "segmentation"


def settings_of(options: argparse.Namespace, *, gpus: int, processes: int) -> dict[str, object]:
    """Translate the options into keys of the config and their values."""
    task = task_of(options)
    plain_lr = 0.05 if options.unet or task == "classification" else 0.02
    settings: dict[str, object] = {
        "data.size": [options.seg_size, options.seg_size],
        "model.backbone": options.backbone_class,
        "model.pretrained": options.pretrained,
        "model.attention": "mean_max" if options.mmanet else "mean" if options.manet else "none",
        "loss.mask_guidance": GUIDANCE if options.maskguided else 0.0,
        f"stages.{task}.epochs": options.max_epoch,
        f"stages.{task}.batch_size": (options.batch_size or (32 if task == "classification" else 8)) // processes,
        f"stages.{task}.lr": options.lr or plain_lr,
    }
    if options.num_classes:
        settings["model.classes"] = options.num_classes
    if options.model_path:
        settings["train.init_from"] = options.model_path
    if options.amp:
        settings["train.precision"] = "float16" if gpus else "bfloat16"
    if task != "classification":
        settings |= {"model.skip_ratio": options.transfer_to, "loss.deep_supervision": options.fsds}
    if task != "classification" and not options.unet:
        parts = ["backbone_deep", "attention", "class_head"] if task == "joint" else []
        settings |= {"model.decoder": "unet3plus", f"stages.{task}.trainable": [*parts, "decoder"]}
    return settings


def toml(value: object) -> str:
    """Write a value as TOML does; JSON's lists, numbers and truth values are the same."""
    return value if isinstance(value, str) else json.dumps(value)


def layout_of(source: Path) -> str:
    """Name the importer: UFG sets keep their lists in anno/, SoyAgeing one folder down."""
    return "ufg" if any(source.glob("anno")) or any(source.glob("*/anno")) else "mganet"


def visible_gpus() -> int:
    """Count the GPUs."""
    import torch  # here, so that --help doesn't wait for it

    return torch.cuda.device_count()


def mnsa(*arguments: str) -> int:
    """Print an mnsa command and run it."""
    print("+", shlex.join(["mnsa", *arguments]), flush=True)
    return subprocess.run([sys.executable, "-m", "mnsa", *arguments], check=False).returncode


def keep_best(run: Path) -> None:
    """Write the run's weights where stage 2 looks for them."""
    import torch
    from safetensors.torch import load_file

    torch.save({"net": load_file(run / "model" / "model.safetensors")}, BEST)
    print(f"Weights for stage 2: ./{BEST}")


if __name__ == "__main__":
    sys.exit(main())

"""Large data sets: `mnsa check` on 100,000 images, and a manifest of 1,000,000 rows.

Claim: `mnsa check` checks at least 300 images of 256 px per second and core, in less than 1.5 GB for 100,000 images;
a manifest of 1,000,000 rows is read in seconds.
Command: `python benchmarks/check_size.py FOLDER --images 100000 --rows 1000000`; FOLDER is new and is removed again.
Expect: two tables. CPU seconds are those of the command and of all its processes, from its start to its end; memory is
the largest sum of their resident sets, sampled ten times a second; a shared page counts once per process.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from timing import machine_facts

SIDE_PX, SHEET_PX, STEP_PX = 256, 1536, 32
PER_SHEET = ((SHEET_PX - SIDE_PX) // STEP_PX + 1) ** 2
CLASSES = 100


class Cost(NamedTuple):
    """What a command took: seconds on the wall and of CPU, memory in MB, and its exit code."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    code: int


def main() -> None:
    """Draw, check, count; then write rows, and read them."""
    options = _options()
    options.folder.mkdir(parents=True)
    try:
        print(machine_facts(), end="\n\n")
        if options.images:
            data = options.folder / "images"
            draw(data, options.images)
            cost = measured([sys.executable, "-m", "mnsa", "check", data, "--workers", options.workers])
            print(
                "| images | workers | exit code | wall, s | CPU, s | images / CPU second | peak memory, MB |\n"
                + "|---" * 7
                + "|"
            )
            rate = options.images / cost.cpu_s
            print(
                f"| {options.images:,} | {options.workers} | {cost.code} | {cost.wall_s:.0f} | {cost.cpu_s:.0f} | ",
                end="",
            )
            print(f"{rate:.0f} | {cost.memory_mb:.0f} |\n", flush=True)
        if options.rows:
            data = options.folder / "rows"
            write_rows(data, options.rows)
            code = "import sys; from pathlib import Path; from mnsa.data.manifest import read_manifest as read"
            cost = measured([sys.executable, "-c", f"{code}; assert len(read(Path(sys.argv[1])).rows)", data])
            print("| rows | file, MB | exit code | wall, s | CPU, s | peak memory, MB |\n" + "|---" * 6 + "|")
            size = (data / "manifest.csv").stat().st_size / 1e6
            print(f"| {options.rows:,} | {size:.0f} | {cost.code} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | ", end="")
            print(f"{cost.memory_mb:.0f} |")
    finally:
        shutil.rmtree(options.folder)


def draw(folder: Path, count: int) -> None:
    """Make a data set of images cropped from large images of noise, each at another position."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = ["image,label,split"]
    while len(rows) <= count:
        sheet = _sheet(random)
        for place in random.permutation(PER_SHEET)[: count + 1 - len(rows)]:
            left, top = (int(step) * STEP_PX for step in divmod(place, (SHEET_PX - SIDE_PX) // STEP_PX + 1))
            number = len(rows)
            name = f"images/{number:07}.jpg"
            sheet.crop((left, top, left + SIDE_PX, top + SIDE_PX)).save(folder / name, quality=90)
            rows.append(
                f"{name},c{number % CLASSES:03},{('train', 'train', 'train', 'val', 'test')[number // CLASSES % 5]}"
            )
    _write(folder, rows)


def write_rows(folder: Path, count: int) -> None:
    """Make the two text files of a data set of so many rows; there are no images."""
    folder.mkdir(parents=True)
    rows = ["image,mask,label,split,group,px_per_mm"]
    for number in range(count):
        names = f"photos/{number % 1000:03}/leaf_{number:07}.jpg,veins/{number % 1000:03}/leaf_{number:07}.png"
        split = "train" if number // 4 % 5 else "val"
        rows.append(f"{names},c{number // 4 % CLASSES:03},{split},plant{number // 4},11.8")
    _write(folder, rows)


def measured(command: list[object]) -> Cost:
    """Run a command and watch it and all processes that it starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    peak = 0
    while child.poll() is None:
        peak = max(peak, sum(_resident(process) for process in _tree(child.pid)))
        time.sleep(0.1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - start, cpu, peak / 1e6, child.returncode)


def _sheet(random: np.random.Generator) -> Image.Image:
    """Make a large image of colored noise at five scales, without similar regions."""
    total = np.zeros((SHEET_PX, SHEET_PX, 3), np.float32)
    for cells in (12, 48, 96, 192, 384):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(noise.resize((SHEET_PX, SHEET_PX), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((total / 5).astype(np.uint8))


def _write(folder: Path, rows: list[str]) -> None:
    classes = ", ".join(f'"c{number:03}"' for number in range(CLASSES))
    (folder / "dataset.toml").write_text(f'classes = [{classes}]\nmask_classes = ["vein"]\n', encoding="utf-8")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _tree(pid: int) -> list[int]:
    """A process and its descendants. Linux alone."""
    try:
        children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in _words(task / "children")]
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in _tree(child))]


def _resident(pid: int) -> int:
    words = _words(Path(f"/proc/{pid}/statm"))
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if words else 0


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:  # the process has ended
        return []


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new folder; it is removed again")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()

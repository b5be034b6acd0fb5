"""What the topology metrics cost: their share of the time of `mnsa evaluate`.

Question: how much of an evaluation's time per image goes into the topology of the masks? The predicted mask is the true
one, grown by a pixel and with 2 % of its pixels lost, so it is as busy as a good network's, whatever RUN has learned.
CPU time of one thread.
Command: `mnsa synth --cultivars 2 --per-cultivar 4 --size 512 leaves512; mnsa train configs/small.toml --data leaves512
--out run512 --set data.size=[512,512] --set stages.joint.epochs=1; OMP_NUM_THREADS=1 python
benchmarks/topology_metrics.py leaves512 run512`
Expect: a share of at most 15 %, as median (minimum-maximum) over images.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Row, read_manifest
from mnsa.inference.predictor import load
from mnsa.metrics.evaluation_files import image_row
from mnsa.metrics.functional import mask_counts
from mnsa.metrics.topology import measure_topology
from timing import Range, machine_facts

TURNS = 5


def main() -> None:
    """Measure each image of the data set, the first one twice, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    manifest, predictor = read_manifest(options.data), load(options.run)
    rng = np.random.default_rng(0)
    shares = []
    for row in (manifest.rows[0], *manifest.rows):
        sample = read_sample(manifest, row)
        truth = np.asarray(sample.mask) == 1
        predicted = binary_dilation(truth) & (rng.random(truth.shape) > 0.02)

        def evaluate(row: Row = row) -> None:
            sample = read_sample(manifest, row)
            prediction = predictor.predict_image(sample.image, sample.path)
            image_row(sample, prediction, predictor.classes, predictor.mask_classes)
            mask_counts(prediction.mask, np.asarray(sample.mask), 1)

        topology = cpu_seconds(lambda p=predicted, t=truth: measure_topology(p, t))
        shares.append(100 * topology / (topology + cpu_seconds(evaluate)))
    print(machine_facts())
    print(
        f"share, %: {Range(float(np.median(shares[1:])), min(shares[1:]), max(shares[1:]))}, {len(shares) - 1} images"
    )


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of the fastest of some calls."""
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()

"""Traits compared with the truth: measure synthetic leaves with known vein length, density, areoles and area.

Question: how far is a measured trait from the true one, on the true mask and on a network's? The true mask tells what
the raster and the measuring lose, the network's what the network loses on top.
Command: `mnsa synth --cultivars 12 --per-cultivar 2 --size 512 leaves; python benchmarks/traits.py leaves [--run RUN]`
Expect: per trait the error in % of the truth, mean ± standard deviation over leaves and the worst, and Pearson's r of
measured and true values. The leaf is the true one on both sides: vein networks know none.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mnsa.data.decode import read_mask
from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.inference.predictor import load
from mnsa.traits import Roles, TraitMeasurer

TRUTHS = ("leaf_area_px2", "vein_length_px", "vein_density_px_per_px2", "areole_count")
MEASURER = TraitMeasurer(Roles(vein=(1,), leaf=(), lesion=()), separate_leaf_mask=True)
MaskOf = Callable[[Row], np.ndarray]


def main() -> None:
    """Measure the true masks, then a run's, and print a table."""
    options = _options()
    manifest = read_manifest(options.data)
    manifest = manifest if options.split == "all" else manifest.split(options.split)
    candidates: dict[str, MaskOf] = {"true": lambda row: read_mask(manifest.mask_path(row), 1).numpy()}
    if options.run:
        candidates["predicted"] = mask_of_run(options.run, manifest)
    tables = {name: errors(manifest, mask_of) for name, mask_of in candidates.items()}
    print(markdown(tables, leaves=len(manifest.rows)))


def mask_of_run(run: Path, manifest: Manifest) -> MaskOf:
    """Make what predicts a row's vein mask. Its one mask class must be the vein."""
    predictor = load(run)

    def predicted(row: Row) -> np.ndarray:
        mask = predictor.predict(manifest.image_path(row)).mask
        assert mask is not None
        return mask

    return predicted


def errors(manifest: Manifest, mask_of: MaskOf) -> dict[str, np.ndarray]:
    """Measure every row; true and measured values by trait, (2, N)."""
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in TRUTHS}
    for row in manifest.rows:
        leaf = read_mask(manifest.root / row.extra["leaf_mask"], 1).numpy()
        measured = MEASURER.measure_row(mask_of(row), leaf)
        for name in TRUTHS:
            pairs[name].append((float(row.extra[name]), float(measured[name])))
    return {name: np.array(values).T for name, values in pairs.items()}


def markdown(tables: dict[str, dict[str, np.ndarray]], leaves: int) -> str:
    """Lay out the report: a line per mask and trait."""
    lines = [f"{leaves} leaves\n", "| mask | trait | error, % | worst, % | r |", "|---|---|---|---|---|"]
    for mask, table in tables.items():
        lines += [f"| {mask} | {name} | {' | '.join(summary(*pair))} |" for name, pair in table.items()]
    return "\n".join(lines)


def summary(true: np.ndarray, measured: np.ndarray) -> Iterable[str]:
    """Describe the errors of N measured values: mean ± standard deviation, the worst, and the correlation."""
    error = 100.0 * (measured / true - 1.0)
    worst = error[np.abs(error).argmax()]
    return f"{error.mean():+.1f} ± {error.std():.1f}", f"{worst:+.1f}", f"{np.corrcoef(true, measured)[0, 1]:.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a data set of `mnsa synth`")
    parser.add_argument("--run", type=Path, help="a run that predicts veins: measure its masks, too")
    parser.add_argument("--split", choices=["all", "train", "val", "test"], default="all")
    return parser.parse_args()


if __name__ == "__main__":
    main()

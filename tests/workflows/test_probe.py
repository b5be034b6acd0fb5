"""The probe: colors are told apart, validation chooses, and test rows are opened only when asked for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mnsa as package
from miniature_datasets import write_image
from mnsa.config import Config
from mnsa.data.manifest import Manifest, read_manifest, write_manifest
from mnsa.data.rows import Row
from mnsa.errors import ConfigError, DataError
from mnsa.metrics.scoring import wilson_interval
from mnsa.model.network import build_network
from mnsa.model_folder import save_network
from mnsa.run_folder import ModelSpec
from mnsa.workflows.probe import pool_levels, probe_dataset
from narrowing import some

SIZES = [(32, 32), (64, 32)]


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Two classes that differ by brightness: six images to learn from, four to choose by, four to test with."""
    rows = []
    for n in range(14):
        label, split = ("dark", "light")[n % 2], "train" if n < 6 else "val" if n < 10 else "test"
        rows.append(Row(f"{n}.png", "", label, split, f"plant{n // 2}", None))
        write_image(tmp_path / "colors" / f"{n}.png", height=40, width=40, value=30 + n + 160 * (n % 2))
    manifest = Manifest("colors", tmp_path / "colors", ("dark", "light"), (), tuple(rows))
    write_manifest(manifest, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def change(colors: Path, tmp_path: Path) -> Callable[[Callable[[Row], Row]], Path]:
    """The data set with other rows."""

    def write(edit: Callable[[Row], Row]) -> Path:
        manifest = read_manifest(colors)
        write_manifest(replace(manifest, rows=tuple(map(edit, manifest.rows))), tmp_path / "changed")
        return tmp_path / "changed"

    return write


def test_classes_of_different_brightness_are_told_apart(colors: Path, make_config: Callable[..., Config]) -> None:
    result = probe_dataset(colors, config=make_config(), sizes=SIZES, split="test")
    assert [(row.head, row.levels, row.size) for row in result.rows] == [
        (head, levels, size)
        for size in SIZES
        for levels in ((4,), (5,), (4, 5))
        for head in ("logistic regression", "nearest class mean")
    ]
    assert result.best.validation.value == 1
    assert some(result.test).value("accuracy") == 1
    assert result.images == {"train": 6, "val": 4, "test": 4}
    assert some(result.test).sizes["classification"].drawn_text == "2 groups (plants)"
    assert result.best.validation.interval == wilson_interval(1, 2)  # of two plants


def test_the_same_seed_gives_the_same_numbers(colors: Path, make_config: Callable[..., Config]) -> None:
    first, again = (package.probe(colors, config=make_config(), sizes=SIZES[:1]).to_dict()["rows"] for _ in range(2))
    for rows in (first, again):
        for row in rows:
            del row["fit_s"]
    assert first == again


def test_the_default_sizes_are_two_thirds_and_the_whole_of_the_configs(
    colors: Path, make_config: Callable[..., Config]
) -> None:
    result = probe_dataset(colors, config=make_config(data={"size": (64, 96)}))
    assert [row.size for row in result.rows[::6]] == [(32, 64), (64, 96)]


def test_the_backbone_of_a_run_is_used(colors: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config()
    network = build_network(config.model, 0, 1)
    save_network(tmp_path / "run" / "model", network, ModelSpec(config.model, config.data, (), ("vein",)))
    result = probe_dataset(colors, run=tmp_path / "run")
    assert result.weights == str(tmp_path / "run")
    assert result.rows[-1].size == (64, 64)
    with pytest.raises(ConfigError, match="not both"):
        probe_dataset(colors, run=tmp_path / "run", config=config)


def test_features_are_the_means_of_levels_4_and_5(make_config: Callable[..., Config]) -> None:
    network = build_network(make_config().model, 2, 0).eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    pyramid = network.features(images)
    expected = torch.cat([level.flatten(2).sum(2) / level[0, 0].numel() for level in pyramid[3:]], dim=1)
    torch.testing.assert_close(pool_levels(network, images), expected)


def test_test_rows_are_opened_only_when_asked_for(colors: Path, make_config: Callable[..., Config]) -> None:
    manifest = read_manifest(colors)
    for row in manifest.split("test").rows:
        manifest.image_path(row).unlink()
    assert probe_dataset(colors, config=make_config(), sizes=SIZES[:1]).test is None
    with pytest.raises(DataError, match=r"10\.png"):
        probe_dataset(colors, config=make_config(), sizes=SIZES[:1], split="test")


def test_rows_without_a_label_are_left_out(
    change: Callable[[Callable[[Row], Row]], Path], make_config: Callable[..., Config]
) -> None:
    data = change(lambda row: replace(row, label="") if row.image in ("0.png", "7.png") else row)
    result = probe_dataset(data, config=make_config(), sizes=SIZES[:1])
    assert result.images == {"train": 5, "val": 3}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda row: replace(row, split="train"), "no labeled row with split `val`.*mnsa split DATA"),
        (lambda row: replace(row, label="dark"), "every training row is dark"),
    ],
)
def test_data_that_cannot_be_probed_are_refused(
    change: Callable[[Callable[[Row], Row]], Path],
    make_config: Callable[..., Config],
    edit: Callable[[Row], Row],
    words: str,
) -> None:
    with pytest.raises(DataError, match=words):
        probe_dataset(change(edit), config=make_config())


def test_a_size_below_a_cell_is_refused(colors: Path, make_config: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="16 x 64 px"):
        probe_dataset(colors, config=make_config(), sizes=[(16, 64)])


def test_the_command_shows_all_rows_and_writes_them(
    colors: Path, config_file: Path, tmp_path: Path, mnsa: Callable[..., Any]
) -> None:
    options = ["--config", config_file, "--size", 32, "--size", "64x32", "--out", tmp_path / "probe.json"]
    ended = mnsa("probe", colors, *options, "--split", "test")
    assert ended.code == 0, ended.err
    assert ended.out.count("regression") >= 6  # a narrow table wraps the name
    assert "validation accuracy 1.000" in ended.out
    assert "split test, 4 images" in ended.out
    written = json.loads((tmp_path / "probe.json").read_text())
    assert written["best"]["validation"]["value"] == 1
    assert len(written["rows"]) == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--size", "3x"], "--size 3x"), (["--set", "train.seed=2"], "--config"), (["--out", "/"], "/")],
)
def test_options_that_cannot_be_used_are_refused(
    colors: Path, refused: Callable[..., str], options: list[str], words: str
) -> None:
    assert words in refused("probe", colors, *options)

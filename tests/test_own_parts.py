"""The example of docs/how-to/own-parts.md: a package with parts of every kind, and a config that names them."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnsa import own_parts
from mnsa.config import load_config
from mnsa.config.load import named_configs
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError
from mnsa.inference.predictor import load
from mnsa.training.fit import train

PAGE = Path(__file__).parents[1] / "docs/how-to/own-parts.md"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the page, as an installer leaves it; the folder of its config."""
    project, config = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (module,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    site = tmp_path / "site"
    (site / "leafparts-1.0.dist-info").mkdir(parents=True)
    (site / "leafparts.py").write_text(module)
    (site / "leafparts-1.0.dist-info/METADATA").write_text("Name: leafparts\nVersion: 1.0\n")
    groups = tomllib.loads(project)["project"]["entry-points"]
    lines = []
    for group, names in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    (site / "leafparts-1.0.dist-info/entry_points.txt").write_text("\n".join(lines))
    (tmp_path / "small.toml").write_bytes(named_configs()["small"].read_bytes())
    (tmp_path / "own.toml").write_text(config)
    monkeypatch.syspath_prepend(site)
    own_parts._entry_points.cache_clear()
    yield tmp_path
    own_parts._entry_points.cache_clear()
    sys.modules.pop("leafparts", None)


def test_the_parts_of_the_page_train_and_predict(package: Path, dataset: Path) -> None:
    short = ["data.size=[64,64]", "stages.joint.epochs=1", "stages.joint.batch_size=4", "train.workers=0"]
    run = train(load_config(package / "own.toml", short), dataset, package / "run")
    header, values = run.metrics_file.read_text().splitlines()
    losses = dict(zip(header.split(","), values.split(","), strict=True))
    assert float(losses["loss_focal"]) > 0
    assert float(losses["loss_margin"]) > 0
    predictor = load(run.path)
    assert type(predictor.network.backbone.net).__name__ == "Tiny"
    manifest = read_manifest(dataset)
    answer = predictor.predict(manifest.image_path(manifest.rows[0]))
    assert answer.mask is not None
    assert answer.class_probs is not None


def test_a_name_that_no_package_offers_is_refused(package: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.decoder is 'unknown'.*enhanced, unet, unet3plus, adding"):
        load_config(package / "own.toml", ["model.decoder=unknown"])
    with pytest.raises(ConfigError, match=r"'other' in the entry point group mnsa\.losses. Offered: focal, margin"):
        own_parts.load_own_part("losses", "other")


def test_a_part_that_can_not_be_imported_is_named(package: Path) -> None:
    (package / "site/leafparts.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"mnsa\.backbones: 'tiny' \(leafparts:Tiny\) can't be imported"):
        own_parts.load_own_part("backbones", "tiny")


def test_without_such_packages_there_are_no_parts() -> None:
    assert own_parts.own_parts("decoders") == ()

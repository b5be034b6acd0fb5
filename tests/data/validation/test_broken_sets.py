"""Sixty-odd broken data sets, made here: each finding is found, named with its file, and nothing else is blamed."""

import re
from pathlib import Path

import pytest
from broken_sets import RECIPES, Recipe
from leaf_files import LeafFiles

from mnsa.data.findings import SEVERITY_BY_KIND
from mnsa.data.validation.validate import validate_dataset


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.spoil.__name__)
def test_a_broken_data_set_is_seen_for_what_it_is(recipe: Recipe, own_dataset) -> None:
    leaves = LeafFiles(own_dataset)
    table = (own_dataset / "manifest.csv").read_bytes()
    named = recipe.spoil(leaves)
    if (own_dataset / "manifest.csv").read_bytes() == table:  # some recipes write the table themselves
        leaves.save()
    report = validate_dataset(own_dataset)
    assert named in {finding.file for finding in report.findings if finding.kind == recipe.kind}
    assert {finding.kind for finding in report.findings} <= {recipe.kind, *recipe.also}
    assert report.exit_code == {"error": 2, "warning": 1}[SEVERITY_BY_KIND[recipe.kind]]
    assert all(finding.reason and finding.fix and not finding.fix.endswith(".") for finding in report.findings)


def test_there_is_a_recipe_for_every_kind_of_fault() -> None:
    assert {recipe.kind for recipe in RECIPES} == set(SEVERITY_BY_KIND)
    assert len(RECIPES) >= 40


def test_every_kind_is_explained_with_its_severity() -> None:
    text = (Path(__file__).parents[3] / "docs" / "checking.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| (error|warning) \|", text, re.MULTILINE)
    assert {kind: severity for kinds, severity in rows for kind in re.findall(r"`(.+?)`", kinds)} == SEVERITY_BY_KIND

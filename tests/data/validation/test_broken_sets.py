"""Each broken data set gives the finding of its problem, with the file, and no other finding."""

import re
from pathlib import Path

import broken_files  # noqa: F401 - registers its data sets
import broken_tables  # noqa: F401
import pytest
from broken_set import BROKEN_SETS, BrokenSet
from editable_dataset import EditableDataset

from mnsa.data.findings import SEVERITY_BY_KIND
from mnsa.data.validation.validate import validate_dataset

DOCS = Path(__file__).parents[3] / "docs" / "how-to" / "check.md"


@pytest.mark.parametrize("broken", BROKEN_SETS, ids=[broken.name for broken in BROKEN_SETS])
def test_a_broken_data_set_gives_the_finding_of_its_problem(broken: BrokenSet, own_dataset: Path) -> None:
    dataset = EditableDataset(own_dataset)
    table = (own_dataset / "manifest.csv").read_bytes()
    file = broken.change(dataset)
    if (own_dataset / "manifest.csv").read_bytes() == table:  # some functions write the table themselves
        dataset.save_table()
    report = validate_dataset(own_dataset)
    assert file in {finding.file for finding in report.findings if finding.kind == broken.kind}
    assert {finding.kind for finding in report.findings} <= {broken.kind, *broken.also}
    assert report.exit_code == {"error": 2, "warning": 1}[SEVERITY_BY_KIND[broken.kind]]
    assert all(finding.reason and finding.fix and not finding.fix.endswith(".") for finding in report.findings)


def test_every_kind_of_finding_has_a_broken_data_set() -> None:
    assert {broken.kind for broken in BROKEN_SETS} == set(SEVERITY_BY_KIND)
    assert len(BROKEN_SETS) >= 40


def test_the_docs_list_every_kind_with_its_severity() -> None:
    table_rows = re.findall(r"^\| (`.+?) \| (error|warning) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {kind: severity for kinds, severity in table_rows for kind in re.findall(r"`(.+?)`", kinds)}
    assert documented == SEVERITY_BY_KIND

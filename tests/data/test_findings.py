"""Findings of a validation: severity by kind, and one sentence as an error."""

import pytest

from mnsa.data.findings import SEVERITY_BY_KIND, Finding, raise_finding
from mnsa.errors import DataError


@pytest.mark.parametrize("kind", SEVERITY_BY_KIND)
def test_a_finding_has_the_severity_of_its_kind(kind: str) -> None:
    assert Finding(kind, "a.png", "is empty", "Restore the file").severity == SEVERITY_BY_KIND[kind]
    assert SEVERITY_BY_KIND[kind] in ("error", "warning")


def test_an_unknown_kind_has_no_severity() -> None:
    with pytest.raises(KeyError):
        Finding("other", "a.png", "is empty", "Restore the file").severity  # noqa: B018


@pytest.mark.parametrize(("location", "start"), [("", "a.png"), ("manifest.csv, line 3", "manifest.csv, line 3")])
def test_a_raised_finding_names_the_place_the_problem_and_the_fix(location: str, start: str) -> None:
    with pytest.raises(DataError) as caught:
        raise_finding(Finding("missing", "a.png", "does not exist", "Restore it", location))
    assert str(caught.value) == f"{start}: does not exist. Restore it."

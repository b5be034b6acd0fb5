"""`import mnsa` loads little, and every public name is there and described."""

import subprocess
import sys

import pytest

import mnsa


def test_public_names_are_sorted_and_few() -> None:
    assert sorted(mnsa.__all__) == mnsa.__all__
    assert len(mnsa.__all__) <= 30
    assert dir(mnsa) == mnsa.__all__


@pytest.mark.parametrize("name", mnsa.__all__)
def test_every_public_name_resolves_and_has_a_docstring(name: str) -> None:
    assert getattr(mnsa, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        mnsa.predict  # noqa: B018


def test_importing_the_package_and_measuring_traits_load_no_torch() -> None:
    code = (
        "import mnsa, sys; mnsa.load_config; mnsa.MnsaError; mnsa.TraitMeasurer;"
        "assert not {'torch', 'lightning', 'timm', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""`import mnsa` is small and quick, and every name it promises is there."""

import subprocess
import sys

import pytest

import mnsa


def test_there_are_at_most_fifteen_public_names():
    assert len(mnsa.__all__) <= 15
    assert sorted(mnsa.__all__) == mnsa.__all__


@pytest.mark.parametrize("name", mnsa.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    assert getattr(mnsa, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        mnsa.predict  # noqa: B018


def test_importing_the_package_leaves_torch_out():
    code = "import mnsa, sys; assert not {'torch', 'lightning', 'timm'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)

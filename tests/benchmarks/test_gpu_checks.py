import math

import pytest
import torch

from gpu_checks import checks, largest_difference

CPU = torch.device("cpu")


def test_differences_are_relative_to_large_values_only() -> None:
    theirs = [torch.tensor([0.5, 0.0]), torch.tensor([100.0])]
    assert largest_difference([torch.tensor([0.5, 0.25]), torch.tensor([110.0])], theirs) == 0.25
    assert largest_difference([torch.tensor([0.5, 0.0]), torch.tensor([150.0])], theirs) == 0.5
    assert math.isnan(largest_difference([torch.ones(1), torch.tensor([math.nan])], [torch.zeros(1), torch.ones(1)]))


@pytest.mark.slow
def test_all_checks_pass_in_triton_s_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed: PyTorch for CPUs comes without it")
    found = {check.name: check.difference() <= check.limit for check in checks(CPU, quick=True)}
    assert len(found) == 12
    assert all(found.values()), found

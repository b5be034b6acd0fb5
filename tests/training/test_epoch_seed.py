"""What an epoch draws depends on seed, epoch and process, and on nothing that came before."""

from types import SimpleNamespace

import torch

from mnsa.training.epoch_seed import EpochSeed


def draw(seed, epoch, process=0):
    torch.rand(epoch + 1)  # an earlier epoch's use of the generator
    EpochSeed(seed).on_train_epoch_start(SimpleNamespace(current_epoch=epoch, global_rank=process), None)
    return torch.rand(3).tolist()


def test_an_epoch_draws_the_same_however_it_was_reached():
    draws = [draw(1, 0), draw(1, 1), draw(1, 2)]
    assert draw(1, 1) == draws[1]
    assert draw(1, 0) == draws[0]


def test_another_seed_epoch_or_process_draws_otherwise():
    draws = [draw(1, 0), draw(2, 0), draw(1, 1), draw(1, 0, process=1)]
    assert len(set(map(tuple, draws))) == 4

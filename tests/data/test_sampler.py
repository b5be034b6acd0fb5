import pytest
import torch

from mnsa.data import sampler
from mnsa.data.sampler import Draw, EpochSampler, draw_seed, seed_cpu


def rows_of(epoch_sampler: EpochSampler) -> list[int]:
    return [draw.row for draw in epoch_sampler]


def test_an_epoch_visits_every_row_once_in_an_order_of_its_own() -> None:
    shuffled = EpochSampler(50, seed=1, order="shuffled")
    first = rows_of(shuffled)
    shuffled.set_epoch(1)
    second = rows_of(shuffled)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert {draw.epoch for draw in shuffled} == {1}


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = rows_of(EpochSampler(50, seed=1, order="shuffled"))
    torch.manual_seed(2)
    assert rows_of(EpochSampler(50, seed=1, order="shuffled")) == first
    assert rows_of(EpochSampler(50, seed=2, order="shuffled")) != first


@pytest.mark.parametrize("order", ["shuffled", "given"])
def test_processes_share_the_rows_without_overlap(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampler, "_process", lambda rank=rank: (rank, 3))
        share = EpochSampler(20, seed=1, order=order)
        shares.append(rows_of(share))
        assert len(share) == len(shares[-1])
    together = [row for share in shares for row in share]
    assert len(set(together)) == len(together)
    if order == "given":
        assert sorted(together) == list(range(20))
    else:
        assert [len(share) for share in shares] == [6, 6, 6]  # all processes take the same number of steps


def test_seeds_of_neighbouring_draws_differ() -> None:
    seeds = {draw_seed(s, Draw(e, r)) for s in range(4) for e in range(8) for r in range(32)}
    assert len(seeds) == 4 * 8 * 32
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_seeding_touches_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU's dropout would repeat"))
    seed_cpu(2**64 - 1)
    first = torch.rand(3)
    seed_cpu(2**64 - 1)
    assert torch.equal(torch.rand(3), first)

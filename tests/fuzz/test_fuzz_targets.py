"""Hypothesis runs the fuzzed functions: every input is accepted or refused, and needs little memory."""

import tracemalloc
from pathlib import Path

import pytest
from fuzz_corpus import CORPUS
from fuzz_targets import TARGETS, run_target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mnsa.data import decode

SEEDS = [(target, seed) for target, seeds in CORPUS.items() for seed in seeds]

MAX_MEMORY_BYTES = 50 << 20

# Deterministic: the same examples in every run and on every machine.
DETERMINISTIC = settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged files


@pytest.fixture(autouse=True)
def restore_pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the limits that the image target changes."""
    monkeypatch.setattr(decode, "MAX_PIXELS", decode.MAX_PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@st.composite
def damaged_files(draw: st.DrawFn, target: str) -> bytes:
    """A file of the corpus with bytes changed, removed, inserted, or copied from another file."""
    seeds = [seed for seed in CORPUS[target].values() if len(seed) < 5_000]
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 9))
        other = draw(st.sampled_from(seeds))
        offset = draw(st.integers(0, len(other)))
        data[start:end] = draw(st.binary(max_size=9) | st.just(other[offset : offset + 40]))
    return bytes(data)


@pytest.mark.parametrize(("target", "seed"), SEEDS)
def test_a_file_of_the_corpus_is_accepted_or_refused_with_little_memory(tmp_path: Path, target: str, seed: str) -> None:
    tracemalloc.start()
    run_target(TARGETS[target], CORPUS[target][seed], tmp_path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < MAX_MEMORY_BYTES


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_file_of_the_corpus_is_accepted(tmp_path: Path, target: str) -> None:
    first = next(iter(CORPUS[target].values()))
    assert run_target(TARGETS[target], first, tmp_path) == ""


@pytest.mark.parametrize("target", TARGETS)
@DETERMINISTIC
@given(data=st.data())
def test_a_damaged_file_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, target: str, data: st.DataObject
) -> None:
    run_target(TARGETS[target], data.draw(damaged_files(target)), shared_folder(tmp_path_factory, target))


@pytest.mark.parametrize("target", TARGETS)
@DETERMINISTIC
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, target: str, content: bytes
) -> None:
    run_target(TARGETS[target], content, shared_folder(tmp_path_factory, target))


def shared_folder(factory: pytest.TempPathFactory, target: str) -> Path:
    """One folder per target; each example replaces the files of the last one."""
    folder = factory.getbasetemp() / f"fuzz-{target}"
    folder.mkdir(exist_ok=True)
    return folder

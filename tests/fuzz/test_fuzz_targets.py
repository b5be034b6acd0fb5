"""The readers of strangers' files under Hypothesis: a value or a MnsaError, never anything else, and little memory."""

import tracemalloc
from pathlib import Path

import pytest
from fuzz_corpus import CORPUS
from fuzz_targets import TARGETS, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnsa.data import decode

SEEDS = [(name, seed) for name, seeds in CORPUS.items() for seed in seeds]
# The same examples in every run, on every machine: a fixed corpus.
FIXED = settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.filterwarnings("ignore")  # what Pillow mumbles about a broken file


@pytest.fixture(autouse=True)
def pixel_limit(monkeypatch):
    """Restore afterwards what the target for images lowers."""
    monkeypatch.setattr(decode, "MAX_PIXELS", decode.MAX_PIXELS)
    monkeypatch.setattr(decode.Image, "MAX_IMAGE_PIXELS", decode.Image.MAX_IMAGE_PIXELS)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A file of the corpus with bytes changed, cut out, put in, or spliced with another."""
    seeds = [seed for seed in CORPUS[name].values() if len(seed) < 5_000]
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 9))
        other = draw(st.sampled_from(seeds))
        splice = st.integers(0, len(other)).map(lambda at, other=other: other[at : at + 40])
        data[start:end] = draw(st.binary(max_size=9) | splice)
    return bytes(data)


@pytest.mark.parametrize(("name", "seed"), SEEDS)
def test_every_file_of_the_corpus_is_read_or_refused_with_little_memory(tmp_path, name, seed):
    tracemalloc.start()
    survives(TARGETS[name], CORPUS[name][seed], tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_honest_files_of_the_corpus_are_read(tmp_path, name):
    first = next(iter(CORPUS[name].values()))
    assert survives(TARGETS[name], first, tmp_path) == ""


@pytest.mark.parametrize("name", TARGETS)
@FIXED
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, name, data):
    survives(TARGETS[name], data.draw(damaged(name)), folder_of(tmp_path_factory, name))


@pytest.mark.parametrize("name", TARGETS)
@FIXED
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, name, content):
    survives(TARGETS[name], content, folder_of(tmp_path_factory, name))


def folder_of(factory: pytest.TempPathFactory, name: str) -> Path:
    """One folder a target: the next example overwrites what the last one left."""
    folder = factory.getbasetemp() / f"fuzz-{name}"
    folder.mkdir(exist_ok=True)
    return folder

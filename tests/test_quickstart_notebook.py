"""notebooks/quickstart.ipynb: what it shows is what its code does, and what its text says is so."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
LARGEST_BYTES = 300_000


@pytest.fixture(scope="module")
def kept():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(kept, tmp_path_factory):
    """The notebook, run again from its first cell to its last in the folder that it lies in."""
    notebook = nbformat.from_dict(kept)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("OMP_NUM_THREADS", "1")
        NotebookClient(
            notebook, timeout=900, coalesce_streams=True, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
        ).execute()
    return notebook


def outputs(notebook, cell):
    (found,) = [one for one in notebook.cells if one.id == cell]
    return found.outputs


def kinds(notebook):
    """Cell by cell, what it shows."""
    return {
        cell.id: [out.get("name") or sorted(out.data) for out in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def table(notebook, cell):
    """The rows of a table that a cell shows: first cell -> the others."""
    (out,) = outputs(notebook, cell)
    lines = out.data["text/markdown"].splitlines()[2:]
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in rows}


def test_it_was_kept_as_it_ran_from_top_to_bottom_and_is_small(kept):
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert NOTEBOOK.stat().st_size < LARGEST_BYTES
    assert not re.search(r"stderr|Traceback|/(?:tmp|home|root|Users)/", NOTEBOOK.read_text(encoding="utf-8"))


def test_its_links_lead_somewhere(kept):
    text = "".join(cell.source for cell in kept.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
    assert len(links) >= 4


@pytest.mark.slow
def test_run_again_it_shows_the_same_kinds_of_things(kept, executed):
    assert kinds(executed) == kinds(kept)


@pytest.mark.slow
def test_what_its_text_says_of_the_answers_is_so(executed):
    scores = {name: float(score) for name, (score, _) in table(executed, "score").items()}
    assert scores["accuracy"] > 0.5  # twice what guessing gets
    assert scores["vein IoU"] > 0.35
    found, drawn = ({name: float(row[i]) for name, row in table(executed, "traits").items()} for i in (0, 1))
    assert found["vein_width_mean_mm"] > drawn["vein_width_mean_mm"]
    assert found["vein_length_mm"] < drawn["vein_length_mm"]
    assert found["areole_count"] < drawn["areole_count"]

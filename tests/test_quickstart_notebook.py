"""notebooks/quickstart.ipynb: its stored outputs are what its code shows, and its text is true."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def stored() -> NotebookNode:
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)
    return notebook


@pytest.fixture(scope="module")
def executed(stored: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The notebook, executed from its first cell to its last, in its own folder."""
    notebook: NotebookNode = nbformat.from_dict(stored)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("OMP_NUM_THREADS", "1")
        NotebookClient(
            notebook, timeout=900, coalesce_streams=True, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
        ).execute()
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_kinds(notebook: NotebookNode) -> dict[str, list[object]]:
    """The kinds of outputs of each cell."""
    return {cell.id: [out.get("name") or sorted(out.data) for out in cell.outputs] for cell in code_cells(notebook)}


def table(notebook: NotebookNode, cell_id: str) -> dict[str, list[str]]:
    """The rows of the table that a cell shows: first cell -> the others."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    lines = cell.outputs[0].data["text/markdown"].splitlines()[2:]
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in rows}


def test_it_was_stored_after_one_run_from_top_to_bottom(stored: NotebookNode) -> None:
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert not re.search(r"stderr|Traceback|/(?:tmp|home|root|Users)/", NOTEBOOK.read_text(encoding="utf-8"))


def test_it_imports_nothing_deeper_than_the_package(stored: NotebookNode) -> None:
    trees = [ast.parse(cell.source) for cell in code_cells(stored)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert [name for name in names if name.startswith("mnsa")] == ["mnsa"]


def test_its_links_lead_to_files(stored: NotebookNode) -> None:
    text = "".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
    assert len(links) >= 4


@pytest.mark.slow
def test_executed_again_it_shows_the_same_kinds_of_outputs(stored: NotebookNode, executed: NotebookNode) -> None:
    assert output_kinds(executed) == output_kinds(stored)


@pytest.mark.slow
def test_what_its_text_says_about_the_results_is_true(executed: NotebookNode) -> None:
    scores = {name: float(score) for name, (score, _) in table(executed, "score").items()}
    assert scores["accuracy"] > 0.5  # twice the accuracy of guessing
    assert scores["IoU of vein"] > 0.35
    predicted, true = ({name: float(row[i]) for name, row in table(executed, "traits").items()} for i in (0, 1))
    assert predicted["vein_width_mean_mm"] > true["vein_width_mean_mm"]
    assert predicted["vein_length_mm"] < true["vein_length_mm"]
    assert predicted["areole_count"] == pytest.approx(true["areole_count"], rel=0.2)

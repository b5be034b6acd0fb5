"""Correcting masks: the routes of the page, paths along veins, and what may be written by whom."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.testing import assert_array_equal

from mnsa.data.annotated_folder import AnnotatedFolder
from mnsa.data.decode import read_mask_indices
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError
from mnsa.serving.annotation import Annotator, PathRequest, Start
from mnsa.serving.service import PredictionService
from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app

BYTES = {"content-type": "application/octet-stream"}
THIS_MACHINE, ANOTHER = ("127.0.0.1", 5000), ("192.168.1.7", 5000)


def a_client(predictor: Any, folder: Path, address: tuple[str, int] = THIS_MACHINE, **limits: Any) -> TestClient:
    annotated = AnnotatedFolder(folder, predictor.mask_classes)
    app = create_app(predictor, name="tiny", limits=RequestLimits(**limits), annotated=annotated)
    return TestClient(app, base_url="http://localhost", client=address)


@pytest.fixture
def annotate(predictor: Any, own_dataset: Path) -> Iterator[TestClient]:
    """A client on this machine, of a server that annotates `own_dataset`."""
    with a_client(predictor, own_dataset) as client:
        yield client


def without_masks(dataset: Path) -> Path:
    """Forget the masks of a data set."""
    table = dataset / "manifest.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join([line[0], "" if n else "mask", *line[2:]]) for n, line in enumerate(lines)))
    return dataset


def test_the_page_and_the_list_of_images_are_served(annotate: TestClient, own_dataset: Path) -> None:
    page = annotate.get("/annotate")
    assert page.status_code == 200
    assert str(own_dataset) in page.text
    rows = read_manifest(own_dataset).rows
    assert annotate.get("/annotations").json() == [{"image": row.image, "mask": row.mask} for row in rows]
    assert annotate.get("/annotations/0/image").headers["content-type"] == "image/jpeg"
    assert annotate.get("/annotations/999/image").status_code == 404
    assert annotate.get("/annotations/-1/mask").status_code == 404


def test_an_image_starts_from_its_own_mask_or_from_the_predicted_one(predictor: Any, own_dataset: Path) -> None:
    row = read_manifest(own_dataset).rows[0]
    own = read_mask_indices(own_dataset / row.mask, 1)
    predicted = predictor.predict(own_dataset / row.image).mask
    assert (own != predicted).any()
    for expected in (own, predicted):
        with a_client(predictor, own_dataset) as client:
            response = client.get("/annotations/0/mask")
            assert response.headers["mask-size"] == "64 64"
            assert_array_equal(np.frombuffer(response.content, np.uint8).reshape(64, 64), expected)
        without_masks(own_dataset)


def test_a_network_of_veins_starts_from_the_mask_that_it_predicts(bundled_veins: Path, own_dataset: Path) -> None:
    from mnsa.inference.predictor import load

    predictor = load(bundled_veins)
    dataset = without_masks(own_dataset)
    annotator = Annotator(AnnotatedFolder(dataset, ["vein"]), a_service(predictor))
    expected = predictor.predict(dataset / read_manifest(dataset).rows[0].image).mask
    assert_array_equal(annotator.start(0).mask, expected)


def test_a_saved_mask_is_what_the_data_set_has(annotate: TestClient, own_dataset: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 30] = 1
    saved = annotate.put("/annotations/0/mask", content=mask.tobytes(), headers=BYTES)
    row = read_manifest(own_dataset).rows[0]
    assert saved.json() == {"mask": row.mask}
    assert row.mask == f"annotations/{row.image}.png"
    assert_array_equal(read_mask_indices(own_dataset / row.mask, 1), mask)
    assert_array_equal(np.frombuffer(annotate.get("/annotations/0/mask").content, np.uint8).reshape(64, 64), mask)


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (bytes(10), BYTES, 422, "64 x 64"),
        (bytes([9]) * 4096, BYTES, 422, "largest class is 1"),
        (bytes(4096), {"content-type": "image/png"}, 415, "octet-stream"),
        (bytes(4096), {**BYTES, "sec-fetch-site": "cross-site"}, 403, "other sites"),
        (bytes(2_000_000), BYTES, 413, "larger"),
    ],
)
def test_a_mask_that_can_not_be_saved_changes_nothing(
    predictor: Any, own_dataset: Path, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    before = (own_dataset / "manifest.csv").read_bytes()
    with a_client(predictor, own_dataset, max_bytes=1_000_000) as client:
        response = client.put("/annotations/0/mask", content=content, headers=headers)
    assert response.status_code == status
    assert words in response.json()["detail"]
    assert (own_dataset / "manifest.csv").read_bytes() == before
    assert not (own_dataset / "annotations").exists()


def test_another_machine_is_refused(predictor: Any, own_dataset: Path) -> None:
    with a_client(predictor, own_dataset, ANOTHER) as client:
        for response in (
            client.get("/annotate"),
            client.get("/annotations/0/image"),
            client.put("/annotations/0/mask", content=bytes(4096), headers=BYTES),
        ):
            assert response.status_code == 403
    assert not (own_dataset / "annotations").exists()


def test_without_a_folder_there_is_no_such_page(client: TestClient) -> None:
    assert client.get("/annotate").status_code == 404
    assert client.get("/annotations").status_code == 404


def test_a_damaged_image_is_named(annotate: TestClient, own_dataset: Path) -> None:
    image = read_manifest(own_dataset).rows[0].image
    (own_dataset / image).write_bytes(b"no image")
    for path in ("image", "mask"):
        response = annotate.get(f"/annotations/0/{path}")
        assert response.status_code == 422
        assert image in response.json()["detail"]


def a_service(predictor: Any) -> PredictionService:
    return PredictionService(predictor, name="tiny", roles=None, limits=RequestLimits())


@pytest.fixture
def ridge(predictor: Any, own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Annotator:
    """An annotator that sees one vein: down from (10, 5), right along row 25, and up to (50, 5)."""
    probs = np.zeros((64, 64), np.uint8)
    probs[5:26, 10] = probs[25, 10:51] = probs[5:26, 50] = 255
    annotator = Annotator(AnnotatedFolder(own_dataset, ["vein"]), a_service(predictor))
    monkeypatch.setattr(annotator, "_predict", lambda _: Start(np.zeros((64, 64), np.uint8), {"vein": probs}))
    return annotator


def a_path(start: tuple[float, float], end: tuple[float, float], name: str = "vein") -> PathRequest:
    return PathRequest.model_validate({"start": start, "end": end, "class": name})


def test_a_path_follows_the_vein(ridge: Annotator) -> None:
    path = ridge.find_path(0, a_path((10.4, 5.2), (50.9, 5.9)))
    assert (path[0], path[-1]) == ((10, 5), (50, 5))
    on_vein = [(x in (10, 50) and y <= 25) or y in (24, 25) for x, y in path]
    assert all(on_vein)
    assert len(path) > 75
    steps = np.abs(np.diff(path, axis=0)).max(axis=1)
    assert (steps == 1).all()


def test_a_path_without_probabilities_is_straight_and_stays_in_the_image(ridge: Annotator) -> None:
    assert ridge.find_path(0, a_path((3, 4), (60, 61), "lesion")) == [(3, 4), (60, 61)]
    path = ridge.find_path(0, a_path((-20, 5), (900, 5)))
    assert (path[0], path[-1]) == ((0, 5), (63, 5))


def test_a_network_without_masks_is_refused(stub: Any, own_dataset: Path) -> None:
    with pytest.raises(ConfigError, match="no masks"):
        Annotator(AnnotatedFolder(own_dataset, ["vein"]), a_service(stub))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--annotate",), "--data"),
        (("--data", "."), "--annotate"),
        (("--annotate", "--data", ".", "--host", "0.0.0.0"), "this machine alone"),
        (("--annotate", "--data", ".", "--allow-host", "lab"), "this machine alone"),
        (("--annotate", "--data", "nowhere"), "nowhere"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    refused: Callable[..., str], finished: Any, options: tuple[str, ...], words: str
) -> None:
    assert words in refused("serve", finished.path, *options)

"""The REST API and the page's files, in this process."""

import base64
import csv
import io
import json
import re
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mnsa.data.decode import read_image
from mnsa.inference.predictor import load
from mnsa.inference.vein_check import NO_LEAF
from mnsa.run_folder import RunFolder


def post(client: TestClient, *photos: Any, **query: Any) -> Any:
    return client.post("/v1/predict", params=query, files=[("images", photo) for photo in photos])


def export(client: TestClient, items: list[dict[str, Any]], **query: Any) -> Any:
    return client.post("/v1/export", params=query, json={"items": items})


def read_csv(text: str) -> Any:
    return list(csv.DictReader(io.StringIO(text)))


def read_csv_file(path: Path, photos: list[tuple[str, bytes]]) -> Any:
    """Read a CSV file of `mnsa predict`, with the names of the photos instead of their paths.

    The column `mask` is left out: it names a file, and the server writes none.
    """
    rows = [{name: cell for name, cell in row.items() if name != "mask"} for row in read_csv(path.read_text())]
    return [row | {"image": name} for row, (name, _) in zip(rows, photos, strict=True)]


def error_detail(response: Any, status: int) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()["detail"]


def decode_image(text: str) -> Any:
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_result_equals_the_prediction_of_the_predictor(
    client: TestClient, predictor: Any, dataset: Path, photos: list[tuple[str, bytes]]
) -> None:
    name, data = photos[0]
    result = post(client, (name, data), top_k=2).json()["results"][0]
    own = predictor.predict_image(read_image(dataset / "images" / name))
    best = own.class_probs.argsort()[::-1][:2]
    assert [one["name"] for one in result["classes"]] == [predictor.classes[k] for k in best]
    assert [one["probability"] for one in result["classes"]] == pytest.approx(own.class_probs[best].tolist())
    np.testing.assert_array_equal(decode_image(result["mask"]["png"]), own.mask)
    np.testing.assert_allclose(decode_image(result["attention"]["png"]) / 255, own.attention, atol=0.5 / 255 + 1e-6)
    assert result["mask"]["areas"][0]["fraction"] == pytest.approx((own.mask == 1).mean(), abs=1e-6)
    assert (result["image"], result["width"], result["height"], result["preview"]) == (name, 64, 64, None)


def test_results_are_in_the_order_of_the_images(client: TestClient, photos: list[tuple[str, bytes]]) -> None:
    results = post(client, *photos, include="classes").json()["results"]
    alone = [post(client, photo, include="classes").json()["results"][0] for photo in photos]
    for result in (*results, *alone):
        del result["seconds"]
    assert results == alone


def test_a_scale_gives_traits_in_millimeters(client: TestClient, photos: list[tuple[str, bytes]]) -> None:
    in_px, in_mm = (post(client, photos[0], include="traits", **q).json()["results"][0] for q in ({}, {"px_per_mm": 4}))
    assert in_px["classes"] is in_px["mask"] is None
    assert in_mm["traits"]["vein_length_mm"] == pytest.approx(in_px["traits"]["vein_length_px"] / 4, rel=1e-5)
    assert set(in_mm["traits"]) != set(in_px["traits"]) == set(client.get("/v1/model").json()["traits"])


def test_the_csv_file_equals_that_of_mnsa_predict(
    client: TestClient,
    photos: list[tuple[str, bytes]],
    dataset: Path,
    finished: RunFolder,
    mnsa: Callable[..., Any],
    tmp_path: Path,
) -> None:
    files = [dataset / "images" / name for name, _ in photos]
    options = ("--traits", "--px-per-mm", 2, "--batch-size", 1)  # the last digit of a sum depends on the batch size
    assert mnsa("predict", finished.path, *files, *options, "--out", tmp_path / "out").code == 0
    response = post(client, *photos, px_per_mm=2, format="csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert read_csv(response.text) == read_csv_file(tmp_path / "out" / "predictions.csv", photos)


@pytest.fixture
def calibrated(own_run: RunFolder, own_dataset: Path, dataset: Path, mnsa: Callable[..., Any]) -> RunFolder:
    """A calibrated run with a threshold that about half of the images reach."""
    table = own_dataset / "manifest.csv"
    table.write_text(table.read_text().replace("train", "val"))
    assert mnsa("calibrate", own_run.path, "--data", own_dataset).code == 0
    file = own_run.path / "calibration.json"
    images = sorted((dataset / "images").iterdir())
    served: Any = load(own_run.path)
    confidences = [served.predict(image).class_probs.max() for image in images]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threshold": float(np.median(confidences))}))
    return own_run


@pytest.mark.slow
def test_cli_csv_json_and_export_agree_on_unknown(
    open_client: Callable[..., TestClient],
    calibrated: RunFolder,
    dataset: Path,
    mnsa: Callable[..., Any],
    tmp_path: Path,
) -> None:
    photos = [(path.name, path.read_bytes()) for path in sorted((dataset / "images").iterdir())]
    assert mnsa("predict", calibrated.path, dataset / "images", "--out", tmp_path / "out").code == 0
    rows = read_csv_file(tmp_path / "out" / "predictions.csv", photos)
    predicted = [row["predicted"] for row in rows]
    assert "unknown" in predicted
    assert set(predicted) != {"unknown"}
    with open_client(load(calibrated.path), max_images=len(photos)) as client:
        assert client.get("/v1/model").json()["threshold"] > 0
        results = post(client, *photos, include=["classes", "row"]).json()["results"]
        served = read_csv(post(client, *photos, format="csv").text)
        exported = read_csv(export(client, [{"row": result["row"]} for result in results]).text)
    assert [result["predicted"] for result in results] == predicted
    assert [row["predicted"] for row in served] == predicted
    assert [row["predicted"] for row in exported] == predicted
    assert [row["top5"] for row in served] == [row["top5"] for row in rows]


def test_a_large_image_is_shrunk_on_request_and_its_mask_and_traits_are_those_of_the_whole_one(
    client: TestClient, photos: list[tuple[str, bytes]], encoded: Callable[..., bytes]
) -> None:
    small = Image.open(io.BytesIO(photos[0][1])).resize((320, 240))
    large = small.resize((640, 480), Image.Resampling.NEAREST)  # four pixels of each, so it is shrunk to the small one
    files = [(name, encoded(np.array(image))) for name, image in (("small.png", small), ("large.png", large))]
    one, other = (post(client, file, max_side_px=320).json()["results"][0] for file in files)
    assert (one["width"], one["height"], one["shrink_factor"]) == (320, 240, 1.0)
    assert (other["width"], other["height"], other["shrink_factor"]) == (640, 480, 0.5)
    masks = [decode_image(result["mask"]["png"]) for result in (one, other)]
    np.testing.assert_array_equal(masks[1], masks[0].repeat(2, axis=0).repeat(2, axis=1))
    assert masks[0].any()
    assert one["mask"]["areas"] == other["mask"]["areas"]
    for name, value in one["traits"].items():
        factor = (
            0.5 if name.endswith("_px_per_px2") else 4 if name.endswith("_px2") else 2 if name.endswith("_px") else 1
        )
        if isinstance(value, float):
            assert other["traits"][name] == pytest.approx(factor * value, rel=1e-4), name
    in_mm = [
        post(client, file, max_side_px=320, px_per_mm=scale).json()["results"][0]["traits"]
        for file, scale in zip(files, (3, 6), strict=True)
    ]
    assert in_mm[0] == pytest.approx(in_mm[1], nan_ok=True)
    assert post(client, files[1]).json()["results"][0]["shrink_factor"] == 1.0
    assert post(client, files[1], max_side_px=100).status_code == 422


def test_the_page_shrinks_photos_only_where_the_network_knows_no_width_of_veins(
    client: TestClient, open_client: Callable[..., TestClient], stub: Any
) -> None:
    assert client.get("/v1/model").json()["page_max_side_px"] == 2048
    stub.keeps_scale = True
    with open_client(stub) as other:
        assert other.get("/v1/model").json()["page_max_side_px"] is None
        assert "are shrunk" not in other.get("/").text


def test_exported_results_equal_the_files_of_a_prediction(client: TestClient, photos: list[tuple[str, bytes]]) -> None:
    results = post(client, *photos, include=["row", "mask", "preview"]).json()["results"]
    items = [{"row": one["row"], "mask": one["mask"]["png"], "preview": one["preview"]} for one in results]
    for scale in ({}, {"px_per_mm": 2.5}):
        predicted, exported = (
            read_csv(post(client, *photos, format="csv", **scale).text),
            export(client, items, **scale),
        )
        for row, expected in zip(read_csv(exported.text), predicted, strict=True):
            assert list(row) == list(expected)
            for column, text in row.items():
                assert text == expected[column] or float(text) == pytest.approx(float(expected[column]), rel=2e-5)
    with zipfile.ZipFile(io.BytesIO(export(client, items, format="zip").content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(post(client, *photos, format="zip").content)) as archive:
        assert set(members) == set(archive.namelist())
        masks = [name for name in members if name.startswith("masks/")]
        assert [members[name] for name in masks] == [archive.read(name) for name in masks]


def test_an_export_has_a_row_for_a_failed_image_and_escapes_formulas(
    client: TestClient, photos: list[tuple[str, bytes]]
) -> None:
    row = post(client, ("=1+1.jpg", photos[0][1]), include="row").json()["results"][0]["row"]
    failed = {"image": "@x.jpg", "error": "=cmd()"}
    rows = read_csv(export(client, [{"row": row}, {"row": failed}]).text)
    assert [one["image"] for one in rows] == ["'=1+1.jpg", "'@x.jpg"]
    assert rows[1]["error"] == "'=cmd()"
    assert rows[1]["predicted"] == ""


@pytest.mark.parametrize(
    ("item", "status", "words"),
    [
        ({"row": {"price": "1"}}, 422, "Unknown column 'price'"),
        ({"row": {"vein_length_px": "long"}}, 422, "not a number"),
        ({"row": {"image": 1}}, 422, "items.0.row.image"),
        ({"row": {"image": "a"}, "path": "/etc/passwd"}, 422, "items.0.path"),
        ({"row": {"image": "a"}, "mask": "?", "preview": "?"}, 422, "not base64"),
        ({"row": {"image": "a"}, "mask": "bGVhZg==", "preview": "bGVhZg=="}, 415, "a is not a readable image"),
    ],
)
def test_invalid_exports_are_refused(client: TestClient, item: dict[str, Any], status: int, words: str) -> None:
    assert words in error_detail(export(client, [item], format="zip", px_per_mm=2), status)


def test_an_export_must_be_json_with_items(client: TestClient) -> None:
    assert "application/json" in error_detail(client.post("/v1/export", content=b"{}"), 415)
    assert "items" in error_detail(export(client, []), 422)
    headers = {"content-type": "application/json"}
    for content in (b"{", b"[" * 100_000, b"\xff"):
        assert "JSON" in error_detail(client.post("/v1/export", content=content, headers=headers), 422)


def test_an_export_has_the_size_limit_of_a_request(open_client: Callable[..., TestClient], predictor: Any) -> None:
    with open_client(predictor, max_bytes=1000) as client:
        assert "larger than" in error_detail(export(client, [{"row": {"image": "x" * 1000}}]), 413)


def test_the_zip_file_has_table_masks_and_overlays(
    client: TestClient, photos: list[tuple[str, bytes]], predictor: Any, dataset: Path
) -> None:
    (name, data), _ = photos
    response = post(client, (name, data), ("../../x/" + name, data), format="zip")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        stem = name.removesuffix(".jpg")
        images = {f"masks/{one}.png" for one in (stem, f"{stem}-2")} | {
            f"overlays/{one}.jpg" for one in (stem, f"{stem}-2")
        }
        assert set(archive.namelist()) == {"predictions.csv", *images}
        mask = np.array(Image.open(archive.open(f"masks/{stem}-2.png")))
        rows = read_csv(archive.read("predictions.csv").decode())
    assert [row["mask"] for row in rows] == [f"masks/{stem}.png", f"masks/{stem}-2.png"]
    np.testing.assert_array_equal(mask, predictor.predict_image(read_image(dataset / "images" / name)).mask)


def test_uploads_are_never_written_to_disk(
    client: TestClient, encoded: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "does not exist"))
    data = encoded((1200, 1200))
    assert len(data) > 3 * 2**20
    assert post(client, ("large.png", data), include="classes").status_code == 200


def test_unreadable_images_are_refused_by_name(
    client: TestClient, photos: list[tuple[str, bytes]], encoded: Callable[..., bytes]
) -> None:
    data = photos[0][1]
    assert "notes.txt is not a readable image" in error_detail(post(client, photos[0], ("notes.txt", b"leaf")), 415)
    assert error_detail(post(client, ("leaf.jpg", b"")), 415) == "leaf.jpg is empty (0 bytes)."
    assert "is truncated" in error_detail(post(client, ("leaf.jpg", data[: len(data) // 2])), 415)
    assert "not a readable image" in error_detail(post(client, ("leaf.gif", encoded((8, 8), "GIF"))), 415)


def test_a_heic_photo_is_predicted_or_refused_with_the_package_that_reads_it(
    client: TestClient, encoded: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    photo = ("leaf.heic", encoded((40, 30), "HEIF"))
    result = post(client, photo, include="mask").json()["results"][0]
    assert {result["width"], result["height"]} == {40, 30}
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    detail = error_detail(post(client, photo), 415)
    assert detail.startswith("leaf.heic is a HEIC photo")
    assert "pip install -e '.[heif]'" in detail


@pytest.mark.parametrize("name", ["/etc/passwd", "..\\..\\secret.jpg", "a\x00b.jpg", "x" * 500, "\n"])
def test_a_file_name_is_only_a_label(client: TestClient, name: str) -> None:
    detail = error_detail(post(client, (name, b"no image")), 415)
    assert len(detail) < 220
    assert "/" not in detail.split(" ")[0]
    assert "passwd" not in detail or detail.startswith("passwd ")


def test_limits_are_enforced(
    open_client: Callable[..., TestClient],
    predictor: Any,
    photos: list[tuple[str, bytes]],
    encoded: Callable[..., bytes],
) -> None:
    with open_client(predictor, max_bytes=20_000, max_pixels=5_000, max_images=1) as client:
        assert post(client, photos[0]).status_code == 200
        assert "larger than" in error_detail(post(client, ("noise.png", encoded((100, 100)))), 413)
        too_many_pixels = encoded(np.zeros((80, 80, 3), np.uint8))
        assert "maximum is 5,000" in error_detail(post(client, ("plain.png", too_many_pixels)), 413)
        assert "more than 1 images" in error_detail(post(client, *photos), 413)


@pytest.mark.parametrize(
    ("query", "word"),
    [({"px_per_mm": 0}, "px_per_mm"), ({"px_per_mm": "nan"}, "px_per_mm"), ({"top_k": 0}, "top_k"),
     ({"include": "soul"}, "include"), ({"format": "pdf"}, "format"), ({"path": "/etc/passwd"}, "path")],
)  # fmt: skip
def test_invalid_parameters_are_named(
    client: TestClient, photos: list[tuple[str, bytes]], query: dict[str, Any], word: str
) -> None:
    assert error_detail(post(client, photos[0], **query), 422).startswith(word)


def test_the_form_may_only_contain_images(client: TestClient, photos: list[tuple[str, bytes]]) -> None:
    assert "may only contain" in error_detail(client.post("/v1/predict", files=[("other", photos[0])]), 422)
    detail = error_detail(client.post("/v1/predict", data={"path": "/etc/passwd"}, files=[("images", photos[0])]), 422)
    assert "may only contain" in detail
    assert "multipart/form-data" in error_detail(client.post("/v1/predict", json={"images": ["/etc/passwd"]}), 415)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert "form is invalid" in error_detail(client.post("/v1/predict", content=b"nonsense", headers=broken), 422)
    assert "form is invalid" in error_detail(
        client.post("/v1/predict", headers={"content-type": "multipart/form-data"}), 422
    )


def test_a_full_queue_is_429_with_retry_after(
    open_client: Callable[..., TestClient], stub: Any, photos: list[tuple[str, bytes]]
) -> None:
    with open_client(stub, queue_size=1) as client:
        first = threading.Thread(target=post, args=(client, photos[0]))
        first.start()
        assert stub.started.wait(30)
        response = post(client, photos[1])
        assert "full (1 requests)" in error_detail(response, 429)
        assert int(response.headers["retry-after"]) > 0
        assert client.get("/healthz").json() == {"status": "ok"}
        stub.release.set()
        first.join(30)
        assert post(client, photos[1]).status_code == 200


def test_a_timeout_is_504(open_client: Callable[..., TestClient], stub: Any, photos: list[tuple[str, bytes]]) -> None:
    with open_client(stub, timeout_s=0.05) as client:
        assert "0.05 seconds" in error_detail(post(client, photos[0]), 504)
        stub.release.set()


def test_the_model_info_has_outputs_and_limits_but_no_path(
    client: TestClient, predictor: Any, finished: RunFolder
) -> None:
    response = client.get("/v1/model")
    info = response.json()
    assert info["classes"] == list(predictor.classes)
    assert info["mask_classes"] == [{"name": "vein", "value": 1, "color": "#f0e442"}]
    assert info["limits"]["max_images"] == 16
    assert str(finished.path.parent) not in response.text


def test_metrics_count_images_and_status_codes(
    open_client: Callable[..., TestClient], predictor: Any, photos: list[tuple[str, bytes]]
) -> None:
    with open_client(predictor) as client:
        post(client, *photos)
        post(client, ("x.jpg", b"x"))
        client.get("/nowhere/at/all")
        text = client.get("/metrics").text
    assert "mnsa_images_total 2.0" in text
    assert 'mnsa_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'mnsa_requests_total{path="/v1/predict",status="415"} 1.0' in text
    assert 'mnsa_requests_total{path="other",status="404"} 1.0' in text
    assert "mnsa_queue_requests 0.0" in text


def test_the_page_needs_no_other_server(client: TestClient) -> None:
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert "http://" not in index.text.replace("http://www.w3.org", "")
    assert "https://" not in index.text
    for link in re.findall(r'(?:src|href)="(static/[^"]+)"', index.text):
        assert client.get(f"/{link}").status_code == 200
    script = client.get("/static/app.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    for name in re.findall(r'from "./([^"]+)"', script.text):
        assert client.get(f"/static/{name}").status_code == 200
    for path in ("static/index.html", "static/../app.py", "static/..%2fserver.py", "templates/index.html", "docs"):
        assert client.get(f"/{path}").status_code == 404


def test_names_of_classes_are_escaped_in_the_page(open_client: Callable[..., TestClient], stub: Any) -> None:
    stub.classes = ("<script>alert(1)</script>", "</script>&")
    with open_client(stub) as client:
        text = client.get("/").text
    assert "alert(1)" in text
    assert text.count("<script") == 2  # the model info and app.js
    model = json.loads(text.partition('id="model">')[2].partition("</script>")[0])
    assert model["classes"] == list(stub.classes)


def test_an_internal_error_reveals_nothing(
    open_client: Callable[..., TestClient], stub: Any, photos: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "predict_image", lambda image: 1 / 0)
    with open_client(stub) as client:
        monkeypatch.setattr(client._transport, "raise_server_exceptions", False)
        assert error_detail(post(client, photos[0]), 500) == "Internal error. The server's log has the details."
        assert 'status="500"' in client.get("/metrics").text


def test_a_network_without_masks_leaves_their_parts_null(
    open_client: Callable[..., TestClient], stub: Any, photos: list[tuple[str, bytes]]
) -> None:
    stub.release.set()
    with open_client(stub) as client:
        result = post(client, photos[0]).json()["results"][0]
        assert result["classes"][0] == {"name": "a", "probability": 0.75}
        assert result["mask"] is result["attention"] is result["traits"] is None
        assert post(client, photos[0], format="csv").text.splitlines()[0] == "image,predicted,probability,top5,error"


def test_a_network_of_veins_gives_confidence_and_warning(
    open_client: Callable[..., TestClient], bundled_veins: Path, encoded: Callable[..., bytes]
) -> None:
    blank = ("blank.png", encoded(np.full((70, 90, 3), 240, np.uint8)))
    with open_client(load("veins", mask_threshold=0.99)) as client:
        result = post(client, blank, include="row").json()["results"][0]
        assert (result["warning"], result["confidence"], result["row"]["warning"]) == (NO_LEAF, 0, NO_LEAF)
        assert read_csv(export(client, [{"row": result["row"]}]).text)[0]["warning"] == NO_LEAF
        other = result["row"] | {"warning": "=1+1"}
        assert "no such warning" in error_detail(export(client, [{"row": other}]), 422)

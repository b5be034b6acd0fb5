"""The REST interface, asked in this process."""

import base64
import csv
import io
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from mnsa.data.decode import read_image


def ask(client, *photos, **query):
    return client.post("/v1/predict", params=query, files=[("images", photo) for photo in photos])


def refusal(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()["detail"]


def pixels_of(text):
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def test_the_answer_is_the_predictor_s_own(client, predictor, dataset, photos):
    name, data = photos[0]
    answer = ask(client, (name, data), top_k=2).json()["results"][0]
    own = predictor.predict_image(read_image(dataset / "images" / name))
    best = own.class_probs.argsort()[::-1][:2]
    assert [one["name"] for one in answer["classes"]] == [predictor.classes[k] for k in best]
    assert [one["probability"] for one in answer["classes"]] == pytest.approx(own.class_probs[best].tolist())
    np.testing.assert_array_equal(pixels_of(answer["mask"]["png"]), own.mask)
    np.testing.assert_allclose(pixels_of(answer["attention"]["png"]) / 255, own.attention, atol=0.5 / 255 + 1e-6)
    assert answer["mask"]["areas"][0]["fraction"] == pytest.approx((own.mask == 1).mean(), abs=1e-6)
    assert (answer["image"], answer["width"], answer["height"], answer["preview"]) == (name, 64, 64, None)


def test_many_images_are_answered_in_their_order(client, photos):
    answers = ask(client, *photos, include="classes").json()["results"]
    alone = [ask(client, photo, include="classes").json()["results"][0] for photo in photos]
    for answer in (*answers, *alone):
        del answer["seconds"]
    assert answers == alone


def test_a_scale_turns_traits_into_millimetres(client, photos):
    in_px, in_mm = (ask(client, photos[0], include="traits", **q).json()["results"][0] for q in ({}, {"px_per_mm": 4}))
    assert in_px["classes"] is in_px["mask"] is None
    assert in_mm["traits"]["vein_length_mm"] == pytest.approx(in_px["traits"]["vein_length_px"] / 4, rel=1e-5)
    assert set(in_mm["traits"]) != set(in_px["traits"]) == set(client.get("/v1/model").json()["traits"])


def test_the_table_is_the_one_that_mnsa_predict_writes(client, photos, dataset, finished, mnsa, tmp_path):
    files = [dataset / "images" / name for name, _ in photos]
    assert mnsa("predict", finished.path, *files, "--traits", "--px-per-mm", 2, "--out", tmp_path / "out").code == 0
    expected = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    response = ask(client, *photos, px_per_mm=2, format="csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    for row, own, (name, _) in zip(rows, expected, photos, strict=True):
        assert row["image"] == name
        assert {**row, "image": ""} == {key: text for key, text in {**own, "image": ""}.items() if key != "error"}


def test_the_archive_holds_table_masks_and_overlays(client, photos, predictor, dataset):
    (name, data), _ = photos
    response = ask(client, (name, data), ("../../x/" + name, data), format="zip")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        stem = name.removesuffix(".jpg")
        pictures = {f"masks/{one}.png" for one in (stem, f"{stem}-2")} | {
            f"overlays/{one}.jpg" for one in (stem, f"{stem}-2")
        }
        assert set(archive.namelist()) == {"predictions.csv", *pictures}
        mask = np.array(Image.open(archive.open(f"masks/{stem}-2.png")))
    np.testing.assert_array_equal(mask, predictor.predict_image(read_image(dataset / "images" / name)).mask)


def test_no_file_leaves_the_memory(client, encoded, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "does not exist"))
    data = encoded((1200, 1200))
    assert len(data) > 3 * 2**20
    assert ask(client, ("large.png", data), include="classes").status_code == 200


def test_what_is_no_image_is_named_and_refused(client, photos, encoded):
    data = photos[0][1]
    assert "notes.txt can't be read as an image" in refusal(ask(client, photos[0], ("notes.txt", b"leaf")), 415)
    assert refusal(ask(client, ("leaf.jpg", b"")), 415) == "leaf.jpg is empty (0 bytes)."
    assert "is cut short" in refusal(ask(client, ("leaf.jpg", data[: len(data) // 2])), 415)
    assert "can't be read" in refusal(ask(client, ("leaf.gif", encoded((8, 8), "GIF"))), 415)


@pytest.mark.parametrize("name", ["/etc/passwd", "..\\..\\secret.jpg", "a\x00b.jpg", "x" * 500, "\n"])
def test_a_client_s_file_name_is_only_a_label(client, name):
    detail = refusal(ask(client, (name, b"no image")), 415)
    assert len(detail) < 220
    assert "/" not in detail.split(" ")[0]
    assert "passwd" not in detail or detail.startswith("passwd ")


def test_limits_are_enforced_by_name(open_client, predictor, photos, encoded):
    with open_client(predictor, max_bytes=20_000, max_pixels=5_000, max_images=1) as client:
        assert ask(client, photos[0]).status_code == 200
        assert "larger than" in refusal(ask(client, ("noise.png", encoded((100, 100)))), 413)
        too_many_pixels = encoded(np.zeros((80, 80, 3), np.uint8))
        assert "at most 5,000" in refusal(ask(client, ("plain.png", too_many_pixels)), 413)
        assert "more than 1 images" in refusal(ask(client, *photos), 413)


@pytest.mark.parametrize(
    ("query", "word"),
    [({"px_per_mm": 0}, "px_per_mm"), ({"px_per_mm": "nan"}, "px_per_mm"), ({"top_k": 0}, "top_k"),
     ({"include": "soul"}, "include"), ({"format": "pdf"}, "format"), ({"path": "/etc/passwd"}, "path")],
)  # fmt: skip
def test_choices_out_of_range_are_named(client, photos, query, word):
    assert refusal(ask(client, photos[0], **query), 422).startswith(word)


def test_a_form_must_hold_images_and_nothing_else(client, photos):
    assert "nothing else" in refusal(client.post("/v1/predict", files=[("other", photos[0])]), 422)
    detail = refusal(client.post("/v1/predict", data={"path": "/etc/passwd"}, files=[("images", photos[0])]), 422)
    assert "nothing else" in detail
    assert "multipart/form-data" in refusal(client.post("/v1/predict", json={"images": ["/etc/passwd"]}), 415)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert "can't be read" in refusal(client.post("/v1/predict", content=b"nonsense", headers=broken), 422)
    assert "can't be read" in refusal(client.post("/v1/predict", headers={"content-type": "multipart/form-data"}), 422)


def test_a_full_queue_answers_429_and_when_to_come_back(open_client, stub, photos):
    with open_client(stub, queue_size=1) as client:
        first = threading.Thread(target=ask, args=(client, photos[0]))
        first.start()
        assert stub.started.wait(30)
        response = ask(client, photos[1])
        assert "full (1 requests)" in refusal(response, 429)
        assert int(response.headers["retry-after"]) > 0
        assert client.get("/healthz").json() == {"status": "ok"}
        stub.go_on.set()
        first.join(30)
        assert ask(client, photos[1]).status_code == 200


def test_an_answer_that_takes_too_long_is_504(open_client, stub, photos):
    with open_client(stub, timeout_s=0.05) as client:
        assert "0.05 seconds" in refusal(ask(client, photos[0]), 504)
        stub.go_on.set()


def test_the_model_says_what_it_answers_and_not_where_it_lies(client, predictor, finished):
    response = client.get("/v1/model")
    about = response.json()
    assert about["classes"] == list(predictor.classes)
    assert about["mask_classes"] == [{"name": "vein", "value": 1, "color": "#f0e442"}]
    assert about["limits"]["max_images"] == 16
    assert str(finished.path.parent) not in response.text


def test_counters_count_images_and_codes(open_client, predictor, photos):
    with open_client(predictor) as client:
        ask(client, *photos)
        ask(client, ("x.jpg", b"x"))
        client.get("/nowhere/at/all")
        text = client.get("/metrics").text
    assert "mnsa_images_total 2.0" in text
    assert 'mnsa_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'mnsa_requests_total{path="/v1/predict",status="415"} 1.0' in text
    assert 'mnsa_requests_total{path="other",status="404"} 1.0' in text
    assert "mnsa_queue_requests 0.0" in text


def test_the_page_and_its_files_come_from_the_package_alone(client):
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert "http://" not in index.text.replace("http://www.w3.org", "")
    assert "https://" not in index.text
    for name in ("app.js", "style.css", "icon.svg", "zip.js"):
        assert client.get(f"/{name}").status_code == 200
    for name in ("pages.py", "../app.py", "..%2fapp.py", "page/app.js", "docs", "redoc"):
        assert client.get(f"/{name}").status_code == 404


def test_a_failure_tells_the_client_nothing_of_the_server(open_client, stub, photos, monkeypatch):
    monkeypatch.setattr(stub, "predict_image", lambda image: 1 / 0)
    with open_client(stub) as client:
        client._transport.raise_server_exceptions = False
        assert refusal(ask(client, photos[0]), 500) == "The server failed. Its log says why."
        assert 'status="500"' in client.get("/metrics").text


def test_a_network_of_one_task_leaves_the_other_null(open_client, stub, photos):
    stub.go_on.set()
    with open_client(stub) as client:
        answer = ask(client, photos[0]).json()["results"][0]
        assert answer["classes"][0] == {"name": "a", "probability": 0.75}
        assert answer["mask"] is answer["attention"] is answer["traits"] is None
        assert ask(client, photos[0], format="csv").text.splitlines()[0] == "image,class,probability,top5"

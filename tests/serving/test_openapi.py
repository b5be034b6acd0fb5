"""The REST API matches openapi.json, for generated requests."""

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app

load_all_checks()
# Random bytes match the schema but are no image, so the server may refuse them.
RANDOM_BYTES_ARE_NO_IMAGE = [CHECKS.get_one("positive_data_acceptance")]
OPERATIONS = {"POST /v1/predict", "POST /v1/export", "GET /v1/model", "GET /healthz", "GET /metrics"}


@pytest.fixture(scope="module")
def operations(predictor: Any) -> dict[str, Any]:
    """The operations of openapi.json by name."""
    app = create_app(predictor, name="tiny", limits=RequestLimits(max_bytes=2**20), hosts=["*"])
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, GenerationMode.POSITIVE) for name in sorted(OPERATIONS)),
        ("POST /v1/predict", GenerationMode.NEGATIVE),
        ("POST /v1/export", GenerationMode.NEGATIVE),
    ],
)
def test_responses_match_the_description(operations: dict[str, Any], name: str, mode: Any) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=operations[name].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=RANDOM_BYTES_ARE_NO_IMAGE)

    check()


def test_every_operation_is_described_and_every_error_has_an_example(
    operations: dict[str, Any], client: TestClient
) -> None:
    assert set(operations) == OPERATIONS
    responses = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]
    assert set(responses) == {"200", "403", "408", "413", "415", "421", "422", "429", "503", "504"}
    for response in responses.values():
        assert "example" in response["content"]["application/json"]

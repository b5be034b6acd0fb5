"""Every section and every key of a config is described."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mnsa.config import Config


def fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """All fields of the model and of the sections in it: dotted name, field."""
    for name, field in model.model_fields.items():
        yield name, field
        annotation: Any = field.annotation
        for part in (annotation, *get_args(annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from ((f"{name}.{key}", inner) for key, inner in fields(part))


ALL = dict(fields(Config))


def test_sections_and_stages_are_among_the_fields() -> None:
    assert {"data", "data.size", "stages", "stages.lr", "search.ratios"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_every_field_has_a_description_that_is_a_sentence(name: str) -> None:
    description = ALL[name].description
    assert description is not None
    assert len(description) > 8
    assert description.endswith(".")

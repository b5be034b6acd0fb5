"""A value of a narrower type than the code declares, checked when the test runs."""

from typing import TypeVar

T = TypeVar("T")


def some(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None, "None where a value was expected"
    return value


def instance_of(kind: type[T], value: object) -> T:
    """The value, which must be an instance of `kind`."""
    assert isinstance(value, kind), f"{type(value)} where {kind} was expected"
    return value

"""Validation of data sets: complete (`validate_dataset`), or only the errors that stop training (`require_valid`)."""

from mnsa.data.findings import Finding
from mnsa.data.validation.validate import ValidationReport, find_errors, require_valid, validate_dataset

__all__ = ["Finding", "ValidationReport", "find_errors", "require_valid", "validate_dataset"]

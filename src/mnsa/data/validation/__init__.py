"""Every finding in a data set: a short check before training (`require_valid`), and the full one (`validate_dataset`)."""

from mnsa.data.findings import Finding
from mnsa.data.validation.validate import ValidationReport, find_errors, require_valid, validate_dataset

__all__ = ["Finding", "ValidationReport", "find_errors", "require_valid", "validate_dataset"]

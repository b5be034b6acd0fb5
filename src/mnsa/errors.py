"""What can go wrong, in words a user can act on: what came, what was expected, what to do."""

_MAX_CHARACTERS = 10_000  # characters


class MnsaError(Exception):
    """Bad input. The command line prints it as one paragraph and exits with code 2."""

    exit_code = 2

    def __str__(self) -> str:
        """The paragraph; its middle is left out where a file would speak for pages through it."""
        text = super().__str__()
        return (
            text
            if len(text) <= _MAX_CHARACTERS
            else f"{text[: _MAX_CHARACTERS // 2]} ... {text[-_MAX_CHARACTERS // 2 :]}"
        )


class ConfigError(MnsaError):
    """A config file or a `--set` override that can't be used."""


class DataError(MnsaError):
    """A data set, an image or a mask that can't be used."""


class ModelError(MnsaError):
    """A network that can't be built, or weights that don't fit it."""


class RunError(MnsaError):
    """A run folder that is incomplete, in the way, or of another kind."""


class StudyError(MnsaError):
    """A study that is in the way, can't be joined, or holds nothing to select."""

"""Parts from other packages: a package offers them as entry points, and a config names them.

Not from files that a config names: a run folder would then run code when it is opened.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from mnsa.errors import ConfigError

Kind = Literal["backbones", "decoders", "losses", "augmentations"]


def own_parts(kind: Kind) -> tuple[str, ...]:
    """Return the names that installed packages offer in the group `mnsa.KIND`, in alphabetical order."""
    return tuple(sorted(_entry_points(kind)))


def load_own_part(kind: Kind, name: str) -> Callable[..., Any]:
    """Import a part. Raises: ConfigError when no package offers it, or its import fails."""
    offered = _entry_points(kind)
    if name not in offered:
        raise ConfigError(
            f"No installed package offers {name!r} in the entry point group mnsa.{kind}. Offered: "
            f"{', '.join(sorted(offered)) or 'none'}. Install the package that has it."
        )
    try:
        part: Callable[..., Any] = offered[name].load()
    except Exception as error:  # of a foreign package
        raise ConfigError(f"mnsa.{kind}: {name!r} ({offered[name].value}) can't be imported: {error!r}.") from None
    return part


@cache
def _entry_points(kind: Kind) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"mnsa.{kind}")}

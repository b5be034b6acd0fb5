"""Names that others chose, in Markdown."""

import html


def plain(text: str) -> str:
    """A stranger's name, as text in a table: no markup, no link, no line of its own."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{character}" if character in "\\`*[]|#~" else character for character in escaped)

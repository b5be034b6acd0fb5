"""Progress of long commands on standard error: a bar on a terminal, otherwise a line every 30 seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LINE_INTERVAL_S = 30.0


@contextmanager
def image_progress(console: Console | None = None) -> Iterator[Callable[[int, int, int], None]]:
    """Yield a callback for (images finished, images in all, images finished by this call).

    The first and the third number differ when work is resumed. The callback shows images per second and the time left.
    """
    console = console or Console(stderr=True, soft_wrap=True)
    start = time.monotonic()
    if console.is_terminal:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=None, speed="")

            def show(finished: int, total: int, new: int) -> None:
                bar.update(task, completed=finished, total=total, speed=_speed_since(start, total - finished, new))

            yield show
    else:
        last = start

        def show(finished: int, total: int, new: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _LINE_INTERVAL_S:
                last = time.monotonic()
                speed = _speed_since(start, total - finished, new)
                console.print(f"{finished} of {total} images, {speed}", highlight=False)

        yield show


def format_speed(remaining: int, finished: int, seconds: float) -> str:
    """Format images per second and the remaining time, from `finished` images in `seconds`."""
    if not finished or seconds <= 0:
        return ""
    rate = finished / seconds
    minutes, rest = divmod(round(remaining / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate:.3g} images/s, {hours}:{minutes:02}:{rest:02} left"


def _speed_since(start: float, remaining: int, finished: int) -> str:
    return format_speed(remaining, finished, time.monotonic() - start)

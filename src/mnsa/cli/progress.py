"""How far a long command is: a bar on a terminal, otherwise a line now and then, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LINE_INTERVAL_S = 30.0


@contextmanager
def image_progress(console: Console | None = None) -> Iterator[Callable[[int, int, int], None]]:
    """Show (images finished, images in all, of these now): with images per second and the time left."""
    console = console or Console(stderr=True, soft_wrap=True)
    start = time.monotonic()
    if console.is_terminal:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=None, pace="")

            def show(finished: int, total: int, now: int) -> None:
                bar.update(task, completed=finished, total=total, pace=_current_pace(total - finished, now, start))

            yield show
    else:
        last = start

        def show(finished: int, total: int, now: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _LINE_INTERVAL_S:
                last = time.monotonic()
                console.print(
                    f"{finished} of {total} images, {_current_pace(total - finished, now, start)}", highlight=False
                )

        yield show


def format_pace(left: int, now: int, seconds: float) -> str:
    """Images per second, and how long `left` images will take, from `now` images in `seconds`."""
    if not now or seconds <= 0:
        return ""
    rate = now / seconds
    minutes, rest = divmod(round(left / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate:.3g} images/s, {hours}:{minutes:02}:{rest:02} left"


def _current_pace(left: int, now: int, start: float) -> str:
    return format_pace(left, now, time.monotonic() - start)

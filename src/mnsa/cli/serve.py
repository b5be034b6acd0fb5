"""`mnsa serve`: serve a run as a web page and a REST API."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import HeadOption, LeafOption, LesionOption, VeinOption, console, require_extra
from mnsa.errors import ConfigError
from mnsa.weights import VEINS

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def serve(
    run: Annotated[Path, typer.Argument(help="Run folder. `veins`: the network that comes with mnsa.")] = Path(VEINS),
    host: Annotated[str, typer.Option(help="Address to listen on. 0.0.0.0 accepts other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port. 0 takes a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Host name to accept besides localhost. Repeat it.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data set, or folder of photos, to correct masks of: with --annotate.")
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Correct masks at /annotate and save them in the folder of --data.")
    ] = False,
    head: HeadOption = "network",
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
    max_mb: Annotated[int, typer.Option(min=1, help="Maximum size of a request, in MiB.")] = 64,
    max_megapixels: Annotated[int, typer.Option(min=1, max=400, help="Maximum size of an image.")] = 60,
    max_images: Annotated[int, typer.Option(min=1, help="Maximum number of images per request.")] = 16,
    queue_size: Annotated[
        int, typer.Option(min=1, help="Maximum number of queued requests. Others get status 429.")
    ] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum seconds per request, including the queue.")] = 120.0,
) -> None:
    """Serve a web page and a REST API, by default on this machine only. Ctrl-C stops the server.

    Example: `mnsa serve runs/first`, then open http://127.0.0.1:8000
    """
    require_extra("fastapi", "serve")
    if annotate != (data is not None):
        raise ConfigError("--annotate corrects the masks of a folder: give both, --data FOLDER --annotate.")
    if annotate and (allow_host or host not in LOCAL_HOSTS):
        raise ConfigError(
            "--annotate writes files, so it is for this machine alone. Leave out --host and --allow-host."
        )
    from mnsa.data.annotated_folder import AnnotatedFolder
    from mnsa.inference.predictor import load
    from mnsa.serving.upload import MEGAPIXEL, MIB, RequestLimits
    from mnsa.serving.web_app import create_app, run_server
    from mnsa.traits.measurer import find_roles_or_none

    limits = RequestLimits(max_mb * MIB, max_megapixels * MEGAPIXEL, max_images, queue_size, timeout_s=timeout)
    predictor = load(run, head=head)
    roles = find_roles_or_none(predictor.mask_classes, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
    annotated = None if data is None else AnnotatedFolder(data, predictor.mask_classes)
    hosts = (host, *(allow_host or ()))
    app = create_app(
        predictor, name=run.absolute().name, roles=roles, limits=limits, hosts=hosts, annotated=annotated
    )  # fmt: skip
    page = "/annotate" if annotate else ""
    run_server(app, host, port, on_start=lambda url: console.print(f"{run} is served at {url}{page} (Ctrl-C stops it)"))

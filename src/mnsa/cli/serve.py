"""The verb that puts a run behind a web page."""

from typing import Annotated

import typer

from mnsa.cli.app import HeadOption, LeafOption, LesionOption, RunArgument, VeinOption, app, console, require_extra


@app.command()
def serve(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes any free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Name it is asked for under, beside localhost; repeat it.")
    ] = None,
    head: HeadOption = "network",
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 64,
    max_megapixels: Annotated[int, typer.Option(min=1, max=400, help="Largest image.")] = 60,
    max_images: Annotated[int, typer.Option(min=1, help="Most images in a request.")] = 16,
    queue_size: Annotated[int, typer.Option(min=1, help="Requests in the queue; the next gets 429.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take, wait included.")] = 120.0,
) -> None:
    """Serve a web page and a REST interface, to this machine alone unless --host says otherwise. Ctrl-C ends it.

    Example: `mnsa serve runs/first`, then open http://127.0.0.1:8000
    """
    require_extra("fastapi", "serve")
    from mnsa.inference.predictor import load
    from mnsa.serving.server import run_server as serve_app
    from mnsa.serving.upload import MEGAPIXEL, MIB, RequestLimits
    from mnsa.serving.web_app import create_app
    from mnsa.traits.measurer import find_roles_or_none

    limits = RequestLimits(max_mb * MIB, max_megapixels * MEGAPIXEL, max_images, queue_size, timeout_s=timeout)
    predictor = load(run, head=head)
    roles = find_roles_or_none(predictor.mask_classes, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
    web = create_app(predictor, name=run.absolute().name, roles=roles, limits=limits, hosts=(host, *(allow_host or ())))
    serve_app(web, host, port, on_start=lambda address: console.print(f"{run} is at {address} (Ctrl-C ends it)"))

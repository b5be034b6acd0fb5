"""The verb that puts a run behind a web page."""

from typing import Annotated

import typer

from mnsa.cli.app import Head, LeafNames, LesionNames, Run, VeinNames, app, console, require_extra


@app.command()
def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes any free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Name it is asked for under, beside localhost; repeat it.")
    ] = None,
    head: Head = "network",
    vein: VeinNames = None,
    leaf: LeafNames = None,
    lesion: LesionNames = None,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 64,
    max_megapixels: Annotated[int, typer.Option(min=1, max=400, help="Largest image.")] = 60,
    max_images: Annotated[int, typer.Option(min=1, help="Most images in a request.")] = 16,
    places: Annotated[int, typer.Option(min=1, help="Requests in the queue; the next gets 429.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take, wait included.")] = 120.0,
) -> None:
    """Serve a web page and a REST interface, to this machine alone unless --host says otherwise. Ctrl-C ends it.

    Example: `mnsa serve runs/first`, then open http://127.0.0.1:8000
    """
    require_extra("fastapi", "serve")
    from mnsa.inference.predictor import load
    from mnsa.serving.app import make_app
    from mnsa.serving.limits import MEGAPIXEL, MIB, Limits
    from mnsa.serving.server import serve as serve_app
    from mnsa.traits.roles import roles_if_any

    limits = Limits(max_mb * MIB, max_megapixels * MEGAPIXEL, max_images, places, answer_s=timeout)
    predictor = load(run, head=head)
    roles = roles_if_any(predictor.mask_classes, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
    web = make_app(predictor, name=run.absolute().name, roles=roles, limits=limits, hosts=(host, *(allow_host or ())))
    serve_app(web, host, port, announce=lambda address: console.print(f"{run} is at {address} (Ctrl-C ends it)"))

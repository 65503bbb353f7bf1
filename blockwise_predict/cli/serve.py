"""`predict serve`."""

from __future__ import annotations

from typing import Any

import click

from blockwise_predict.cli.address import address_options
from blockwise_predict.cli.on_demand import given_options, open_predictions, prediction_options
from blockwise_predict.cli.options import GroupedCommand
from blockwise_predict.errors import ConfigError


@click.command(
    cls=GroupedCommand, short_help="Serve arrays, or predictions on demand, as zarr over HTTP."
)
@click.argument("paths", metavar="[ARRAY]...", nargs=-1)
@prediction_options
@address_options
def serve(paths: tuple[str, ...], host: str, port: int, **options: Any) -> None:
    """Serve each ARRAY, in whatever format it is stored, as zarr 3 over HTTP, read-only.

    Other programs read them by the URLs that are printed; so does a neuroglancer of another site.
    With a --checkpoint and an --input also what the network predicts of it, computed chunk by chunk
    when they are read: see predict view.

    \b
    predict serve predictions.zarr/affs volume.n5/raw
    predict serve --checkpoint dacapo/my_run --input volume.zarr/raw
    """
    from blockwise_predict.cli.running import finish_process
    from blockwise_predict.io.images import open_image
    from blockwise_predict.view.names import name_of, unique_names
    from blockwise_predict.view.served import serve_image
    from blockwise_predict.view.server import Address
    from blockwise_predict.view.show import serve_images
    from blockwise_predict.view.subject import CACHE_BYTES

    given = given_options(options)
    if not paths and not given:
        raise ConfigError(
            "Name what to serve: arrays, or a --checkpoint and an --input to predict from."
        )
    images = [
        serve_image(name, open_image(path, cache_bytes=CACHE_BYTES), for_display=False)
        for name, path in zip(unique_names(map(name_of, paths)), paths, strict=True)
    ]
    address = Address(host, port)
    if given:
        made = open_predictions(given)
        images += made.images(taken=[image.name for image in images])
        serve_images(images, address, tell=click.echo, running=made.demand.running)
    else:
        serve_images(images, address, tell=click.echo)
    finish_process(0)

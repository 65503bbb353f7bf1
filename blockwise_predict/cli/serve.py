"""`predict serve`."""

from __future__ import annotations

import click

from blockwise_predict.cli.address import address_options
from blockwise_predict.cli.completing import PATH


@click.command(short_help="Serve arrays as zarr over HTTP, read-only.")
@click.argument("paths", metavar="ARRAY...", nargs=-1, required=True, type=PATH)
@address_options
def serve(paths: tuple[str, ...], host: str, port: int) -> None:
    """Serve each ARRAY, in whatever format it is stored, as zarr 3 over HTTP, read-only.

    Other programs read them by the URLs that are printed; so does a neuroglancer of another site.

    \b
    predict serve predictions.zarr/affs volume.n5/raw
    """
    from blockwise_predict.io.images import open_image
    from blockwise_predict.view.names import unique_names
    from blockwise_predict.view.served import serve_image
    from blockwise_predict.view.server import Address, Site
    from blockwise_predict.view.show import serve_images
    from blockwise_predict.view.subject import CACHE_BYTES

    images = {
        name: serve_image(name, open_image(path, cache_bytes=CACHE_BYTES), for_display=False)
        for name, path in zip(unique_names(paths), paths, strict=True)
    }
    serve_images(Site(images), Address(host, port), tell=click.echo)

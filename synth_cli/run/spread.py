"""Spreading the asking of an online step over workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from synth_cli.core.ports import Client
from synth_cli.engines.crew import Hired, Say
from synth_cli.engines.ray.cluster import Cluster
from synth_cli.engines.ray.remote import start_on
from synth_cli.engines.ray.spread import Asking, SpreadClient
from synth_cli.providers.clients import client, read
from synth_cli.providers.http import AiohttpTransport
from synth_cli.providers.resolve import Endpoint
from synth_cli.spec.backend import Distributed

ROOM = 1024
"""Most requests that one worker has under way: connections of one process."""


async def spread(
    place: Endpoint, wanted: Distributed, environ: Mapping[str, str], leave: AsyncExitStack, log: Say
) -> Client:
    """A client that asks through the workers; what `leave` is given ends them. Raises SynthError."""
    cluster = await Cluster.join(wanted.address, needed_for="backend_params.distributed", log=log)
    leave.push_async_callback(cluster.leave)
    make = partial(asking, place, proxies(environ))
    spreading = SpreadClient([start_on(cluster, make, cluster.need(0), read)] * wanted.workers, log=log)
    leave.push_async_callback(spreading.close)
    await spreading.open()
    return spreading


async def asking(place: Endpoint, environ: Mapping[str, str], say: Say) -> Hired:
    """What each worker makes, where it is: a client with connections of its own."""
    transport = None if place.host.litellm else AiohttpTransport(environ={**os.environ, **environ})
    return Hired(Asking(client(place, transport)), ROOM)


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Of the variables those that may be this run's own; no secret needs to travel, and files are where they are."""
    return {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}

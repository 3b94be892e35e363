"""The reference: a bare aiohttp + orjson worker loop that does nothing but send, parse and append a line.

`python bare.py URL ROWS OUT [--in-flight 256] [--uvloop]`
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import BinaryIO

import aiohttp
import orjson

PROMPT = "Write about nothing in particular, in the voice of a friendly chef who knows every cuisine there is. " * 4
"""About 100 tokens."""


async def worker(session: aiohttp.ClientSession, url: str, rows: Iterator[int], out: BinaryIO) -> None:
    for index in rows:
        body = orjson.dumps(
            {
                "model": "bench",
                "messages": [{"role": "user", "content": f"{PROMPT}{index}"}],
                "max_tokens": 400,
            }
        )
        async with session.post(url, data=body) as response:
            answer = orjson.loads(await response.read())
        text = answer["choices"][0]["message"]["content"]
        out.write(orjson.dumps({"index": index, "response": text}, option=orjson.OPT_APPEND_NEWLINE))


async def run(args: argparse.Namespace) -> None:
    rows = iter(range(args.rows))
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": "Bearer none", "Content-Type": "application/json"}
    with open(args.out, "wb") as out:  # noqa: ASYNC230 - a buffered append, as the simplest loop would do it
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session, asyncio.TaskGroup() as group:
            for _ in range(min(args.in_flight, args.rows)):
                group.create_task(worker(session, f"{args.url}/chat/completions", rows, out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("rows", type=int)
    parser.add_argument("out")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--uvloop", action="store_true")
    args = parser.parse_args()
    if args.uvloop:
        import uvloop

        uvloop.run(run(args))
    else:
        asyncio.run(run(args))


if __name__ == "__main__":
    main()

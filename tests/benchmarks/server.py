"""A constant model behind HTTP/1.1, cheap enough not to be what is measured.

Run in a process of its own: `python server.py --latency 0.05`; prints its port on one line. Every POST is a chat
completion of 200 tokens after the latency, whatever the path. `GET /counts` answers what it did as JSON.
A limit is a token bucket that holds at most `--burst` seconds' worth and is stated in OpenAI's headers.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
from collections import Counter
from time import monotonic
from typing import Any, cast

import uvloop

WORDS = "The quick brown fox jumps over the lazy dog while a model writes about nothing in particular today. " * 9
TEXT = WORDS[:800]
USAGE = {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300}
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
REASONS = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error"}


class Bucket:
    def __init__(self, per_minute: float, burst: float) -> None:
        self.per_minute = per_minute
        self.rate = per_minute / 60
        self.most = max(1.0, self.rate * burst)
        self.level = self.most
        self.at = monotonic()

    def fill(self, now: float) -> None:
        self.level = min(self.most, self.level + (now - self.at) * self.rate)
        self.at = now


class Model:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.chance = random.Random(args.seed)
        self.counts: Counter[str] = Counter()
        self.sent_away: Counter[bytes] = Counter()
        self.longest_chain = 0
        self.first = self.last = 0.0
        self.buckets = {
            name: (Bucket(limit, args.burst), cost)
            for name, limit, cost in (
                ("requests", args.requests_per_minute, 1),
                ("tokens", args.tokens_per_minute, USAGE["total_tokens"]),
            )
            if limit
        }
        self.constant = self.response(200, BODY)
        self.faulty = bool(args.share_429 or args.share_500 or args.share_malformed)

    def response(self, status: int, body: bytes, headers: str = "") -> bytes:
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n{headers}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def answer(self, asked: bytes) -> bytes:
        now = monotonic()
        self.first = self.first or now
        self.last = now
        self.counts["requests"] += 1
        if not self.faulty and not self.buckets:
            self.counts["200"] += 1
            return self.constant
        fault = self.fault(asked)
        if fault is not None:
            return fault
        if self.buckets:
            return self.limited(now)
        self.counts["200"] += 1
        return self.constant

    def fault(self, asked: bytes) -> bytes | None:
        args, drawn = self.args, self.chance.random()
        if drawn < args.share_429:
            key = hashlib.blake2b(asked, digest_size=8).digest()
            self.sent_away[key] += 1
            self.longest_chain = max(self.longest_chain, self.sent_away[key])
            self.counts["429"] += 1
            return self.response(429, b'{"error": {"message": "slow down"}}', f"Retry-After: {args.retry_after}\r\n")
        if drawn < args.share_429 + args.share_500:
            self.counts["500"] += 1
            return self.response(500, b'{"error": {"message": "oops"}}')
        if drawn < args.share_429 + args.share_500 + args.share_malformed:
            self.counts["malformed"] += 1
            return self.response(200, BODY[: len(BODY) // 2])
        return None

    def limited(self, now: float) -> bytes:
        refused = 0.0
        for bucket, cost in self.buckets.values():
            bucket.fill(now)
            refused = max(refused, (cost - bucket.level) / bucket.rate)
        if refused <= 0:
            for bucket, cost in self.buckets.values():
                bucket.level -= cost
        stated = (
            ""
            if self.args.silent
            else "".join(
                f"x-ratelimit-limit-{name}: {bucket.per_minute:.0f}\r\n"
                f"x-ratelimit-remaining-{name}: {max(0, int(bucket.level))}\r\n"
                f"x-ratelimit-reset-{name}: {(bucket.most - bucket.level) / bucket.rate:.3f}s\r\n"
                for name, (bucket, _) in self.buckets.items()
            )
        )
        if refused > 0:
            self.counts["429"] += 1
            body = b'{"error": {"message": "rate limit reached", "code": "rate_limit_exceeded"}}'
            return self.response(429, body, f"{stated}Retry-After: {refused:.3f}\r\n")
        self.counts["200"] += 1
        return self.response(200, BODY, stated)

    def told(self) -> bytes:
        counts: dict[str, Any] = dict(self.counts)
        told = counts | {"longest_chain": self.longest_chain, "seconds": self.last - self.first}
        return self.response(200, json.dumps(told).encode())


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request after the other, bodies with a Content-Length only."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer = buffer = self.buffer + data if self.buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(buffer) < end + 4 + length:
            return
        body, self.buffer = buffer[end + 4 : end + 4 + length], buffer[end + 4 + length :]
        if head.startswith(b"get"):
            self.transport.write(self.model.told())
        else:
            # the limit is checked on arrival, the answer takes its time
            self.loop.call_later(self.model.args.latency, self.reply, self.model.answer(body))

    def reply(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


async def serve(args: argparse.Namespace) -> None:
    model = Model(args)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(model), "127.0.0.1", args.port, backlog=2048
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--requests-per-minute", type=float, default=0)
    parser.add_argument("--tokens-per-minute", type=float, default=0)
    parser.add_argument("--burst", type=float, default=1.0, help="seconds' worth that a limit saves up")
    parser.add_argument("--silent", action="store_true", help="no headers about limits but Retry-After")
    parser.add_argument("--share-429", type=float, default=0)
    parser.add_argument("--share-500", type=float, default=0)
    parser.add_argument("--share-malformed", type=float, default=0)
    parser.add_argument("--retry-after", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(serve(arguments()))

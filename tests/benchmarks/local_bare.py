"""The reference for local models: vLLM's AsyncLLM and a loop that asks, and keeps every answer in memory.

`python local_bare.py MODEL JOBS [--lockstep] [--in-flight 64]`; JOBS has a line `{"prompt": …, "max_tokens": …}` for
each row. With `--lockstep` as many as may be in flight are asked at once, and the next when all of these are there.
Prints `{"tokens": …, "seconds": …, "loop": …, "engine": …}` from the first request to the last answer (the start of the
engine is not in it); the last two are the CPU seconds of this process and of the engine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ENGINE: dict[str, Any] = {
    "enforce_eager": True,
    "dtype": "float32",
    "max_model_len": 1024,
    "kv_cache_memory_bytes": 64 << 20,
    "enable_chunked_prefill": False,
    "max_num_seqs": 64,
    "disable_log_stats": True,
}


class Asker:
    def __init__(self, engine: Any, tokenizer: Any) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self.tokens = 0
        self.answers: dict[int, str] = {}

    async def ask(self, index: int, job: dict[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        chat = [{"role": "user", "content": job["prompt"]}]
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        params = SamplingParams(
            max_tokens=job["max_tokens"], ignore_eos=True, temperature=0.0, output_kind=RequestOutputKind.FINAL_ONLY
        )
        async for output in self._engine.generate({"prompt_token_ids": ids}, params, str(index)):
            answer = output.outputs[0]
            self.answers[index] = answer.text
            self.tokens += len(answer.token_ids)

    async def some(self, jobs: Iterator[tuple[int, dict[str, Any]]]) -> None:
        for index, job in jobs:
            await self.ask(index, job)


def of_engine() -> float:
    """CPU seconds of the engine's processes so far."""
    return sum(sum(one.cpu_times()[:2]) for one in psutil.Process().children(recursive=True))


async def run(args: argparse.Namespace) -> dict[str, float]:
    from transformers import AutoTokenizer
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    jobs = [json.loads(line) for line in args.jobs.read_text().splitlines()]
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=args.model, **ENGINE))
    try:
        asker = Asker(engine, AutoTokenizer.from_pretrained(args.model))
        began, loop, core = time.perf_counter(), time.process_time(), of_engine()
        if args.lockstep:
            for start in range(0, len(jobs), args.in_flight):
                chunk = jobs[start : start + args.in_flight]
                await asyncio.gather(*(asker.ask(start + offset, job) for offset, job in enumerate(chunk)))
        else:
            shared = iter(enumerate(jobs))
            await asyncio.gather(*(asker.some(shared) for _ in range(args.in_flight)))
        seconds = time.perf_counter() - began
        assert len(asker.answers) == len(jobs)
        loop, core = time.process_time() - loop, of_engine() - core
        return {"tokens": asker.tokens, "seconds": seconds, "loop": loop, "engine": core}
    finally:
        engine.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--lockstep", action="store_true")
    parser.add_argument("--in-flight", type=int, default=64)
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()

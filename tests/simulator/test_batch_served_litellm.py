from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, json, os, warnings
warnings.simplefilter("ignore")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
import litellm
from synth_cli.simulator import Settings, Simulator

litellm.suppress_debug_info = True
LINE = {"method": "POST", "url": "/v1/chat/completions"}


def line(number, **more):
    body = {"model": "simulator", "messages": [{"role": "user", "content": f"Say {number}."}], **more}
    return json.dumps({"custom_id": f"r{number}", **LINE, "body": body}).encode() + b"\\n"


async def main():
    async with Simulator(Settings()) as simulator:
        common = {"custom_llm_provider": "openai", "api_base": simulator.url, "api_key": "k"}
        data = line(0) + line(1) + line(2, temperature=9)
        file = await litellm.acreate_file(file=("in.jsonl", data), purpose="batch", **common)
        batch = await litellm.acreate_batch(
            completion_window="24h",
            endpoint="/v1/chat/completions",
            input_file_id=file.id,
            metadata={"key": "mine"},
            **common,
        )
        for _ in range(500):
            batch = await litellm.aretrieve_batch(batch_id=batch.id, **common)
            if batch.status == "completed":
                break
            await asyncio.sleep(0.01)
        output = await litellm.afile_content(file_id=batch.output_file_id, **common)
        errors = await litellm.afile_content(file_id=batch.error_file_id, **common)
        listed = await litellm.alist_batches(**common)
        print(json.dumps({
            "status": batch.status,
            "metadata": batch.metadata,
            "counts": [batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed],
            "answered": [json.loads(each)["custom_id"] for each in output.content.splitlines()],
            "refused": [json.loads(each)["custom_id"] for each in errors.content.splitlines()],
            "listed": [one.id for one in listed.data] == [batch.id],
        }))


asyncio.run(main())
"""


@pytest.mark.filterwarnings("default")
def test_litellm_drives_a_batch() -> None:
    """LiteLLM's batch calls, in a process of their own, agree that this is the protocol."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "status": "completed",
        "metadata": {"key": "mine"},
        "counts": [3, 2, 1],
        "answered": ["r0", "r1"],
        "refused": ["r2"],
        "listed": True,
    }

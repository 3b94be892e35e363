"""The worker over vLLM's real engine."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from worker_runs import Asking, asking, request, samples, settings

from synth_cli.core.ports import WorkerLostError
from synth_cli.core.reply import FaultKind
from synth_cli.core.request import Constraint
from synth_cli.engines.vllm.worker import TIMED
from synth_cli.errors import SetupError
from synth_cli.providers.codecs import READERS

SEEDED = {"temperature": 0.9, "seed": 7, "max_tokens": 24, "ignore_eos": True}
TURN = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tiny_asked(tiny: Path) -> Iterator[Asking]:
    with asking(settings(tiny)) as asked:
        yield asked


def test_an_answer_reads_back_as_what_it_says(tiny_asked: Asking) -> None:
    """The bytes that are kept say all that the reply says."""
    for made in (request({"logprobs": 2}), request({"logprobs": 2}, prompt="The quick brown")):
        (exchange,) = tiny_asked.exchanges(made)
        assert exchange.answer is not None
        assert READERS[exchange.answer.protocol](exchange.answer.body) == exchange.reply


def test_an_answer_has_usage_and_one_in_some_the_time_to_its_first_token(tiny_asked: Asking) -> None:
    """What a report needs stands in the bodies; an answer that came in parts is the same as one that came whole."""
    replies = [tiny_asked.reply({**SEEDED, "logprobs": 1}) for _ in range(TIMED + 1)]
    assert {(reply.text, reply.finish_reason, reply.model, str(reply.logprobs)) for reply in replies} == {
        (replies[0].text, "length", "tiny", str(replies[0].logprobs))
    }
    assert all(reply.usage is not None and reply.usage.output == 24 and reply.usage.input > 8 for reply in replies)
    timed = [reply.raw["vllm"]["time_to_first_token"] for reply in replies if "vllm" in reply.raw]
    assert len(timed) in (1, 2)
    assert min(timed) > 0


def test_samples_in_one_call_are_those_of_single_calls(tiny_asked: Asking) -> None:
    """A seed means the same text, alone or among others; the prompt is counted once."""
    three = samples(3, SEEDED)
    together = [exchange.reply for exchange in tiny_asked.exchanges(*three)]
    alone = [tiny_asked.exchanges(one)[0].reply for one in three]
    assert [reply and reply.text for reply in together] == [reply and reply.text for reply in alone]
    assert len({reply and reply.text for reply in together}) == 3
    assert [reply and reply.usage and reply.usage.input > 0 for reply in together] == [True, False, False]


def test_samples_without_chance_are_asked_one_by_one(tiny_asked: Asking) -> None:
    """Temperature 0 with several samples is no error, though vLLM takes only one at once."""
    said = [
        exchange.reply and exchange.reply.text for exchange in tiny_asked.exchanges(*samples(2, {"temperature": 0}))
    ]
    assert said[0] is not None
    assert said[0] == said[1]


def test_stop_strings_end_an_answer_before_them(tiny_asked: Asking) -> None:
    """Parts of an answer are put together as if it had come whole."""
    whole = tiny_asked.reply(SEEDED).text or ""
    stop = whole[8:10]
    for _ in range(TIMED):
        reply = tiny_asked.reply({**SEEDED, "stop": [stop]})
        assert (reply.text, reply.finish_reason) == (whole[: whole.index(stop)], "stop")
        assert reply.raw["vllm"]["stop_reason"] == stop


def test_a_chat_is_the_raw_prompt_that_its_template_writes(tiny_asked: Asking) -> None:
    """The model's own template is used, and nothing is added."""
    greedy = {"temperature": 0, "max_tokens": 12}
    chat = tiny_asked.reply(greedy, {"role": "user", "content": "Hello"})
    parts = tiny_asked.reply(greedy, {"role": "user", "content": [{"type": "text", "text": "Hello"}]})
    raw = tiny_asked.reply(greedy, prompt=TURN)
    assert (chat.text, parts.text) == (raw.text, raw.text)
    assert chat.usage == raw.usage


def test_a_final_message_of_the_assistant_is_continued(tiny_asked: Asking) -> None:
    """The prompt ends in the middle of the answer."""
    greedy = {"temperature": 0, "max_tokens": 12}
    begun = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "The quick"})
    assert tiny_asked.reply(greedy, *begun).text == tiny_asked.reply(greedy, prompt=TURN + "The quick").text
    anew = tiny_asked.reply({**greedy, "add_generation_prompt": True}, *begun)
    said = tiny_asked.reply(greedy, prompt=TURN + "The quick<|im_end|>\n<|im_start|>assistant\n")
    assert (anew.text, anew.usage) == (said.text, said.usage)


def test_a_chat_template_of_the_spec_is_used(tiny_asked: Asking) -> None:
    """A template among the parameters takes the place of the model's own."""
    told = {"temperature": 0, "chat_template": "{% for m in messages %}{{ m.content }}{{ tail }}{% endfor %}"}
    told["chat_template_kwargs"] = {"tail": "!"}
    assert (
        tiny_asked.reply(told).text
        == tiny_asked.reply({"temperature": 0}, prompt="Say something about the weather.!").text
    )


def test_constraints_hold(tiny_asked: Asking) -> None:
    """A model that talks at random keeps to schema, choice, regex and grammar."""
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    schema["additionalProperties"] = False
    room = {"max_tokens": 64}
    assert orjson.loads(tiny_asked.reply(room, constraint=Constraint("schema", schema)).text or "").keys() == {"yes"}
    distinct = {"type": "array", "items": {"type": "boolean"}, "maxItems": 2, "uniqueItems": True}
    assert len(orjson.loads(tiny_asked.reply(room, constraint=Constraint("schema", distinct)).text or "")) <= 2
    assert tiny_asked.reply(room, constraint=Constraint("choice", ["left", "right"])).text in ("left", "right")
    assert re.fullmatch("[a-c]{3}x", tiny_asked.reply(room, constraint=Constraint("regex", "[a-c]{3}x")).text or "")
    assert tiny_asked.reply(room, constraint=Constraint("grammar", 'root ::= "up" | "down"')).text in ("up", "down")


def test_a_bad_row_is_one_fault(tiny_asked: Asking) -> None:
    """What vLLM refuses fails its own request; good rows beside it are answered."""

    async def mixed() -> list[FaultKind | None]:
        bad = [
            request({"temperature": 9}),
            request({"temperature": "hot"}),
            request({"temprature": 1}),
            request({"seed": 2**64}),
            request({"priority": "high"}),
            request({"stop_token_ids": [10**6]}),
            request({}, {"role": "user", "content": "word " * 2000}),
            request(prompt="x" * 20_000),
            request(prompt=""),
            request(constraint=Constraint("schema", {"type": "nonsense"})),
            request(constraint=Constraint("regex", "(")),
            request(constraint=Constraint("grammar", "@@@")),
            request({}, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;,"}}]}),
            request({"chat_template": "{{ raise_exception('no') }}"}),
            request({"chat_template": "{% for %}"}),
            request(tools=({"type": "function", "function": {"name": "f", "parameters": {}}},)),
        ]
        asked = await asyncio.gather(*(tiny_asked.worker.ask([one]) for one in (request(), *bad, request())))
        return [exchange.fault and exchange.fault.kind for (exchange,) in asked]

    refused = [FaultKind.BAD_REQUEST] * 6 + [FaultKind.CONTEXT_LENGTH] * 2 + [FaultKind.BAD_REQUEST] * 8
    assert tiny_asked.runner.run(mixed()) == [None, *refused, None]


def test_every_unknown_parameter_is_named(tiny_asked: Asking) -> None:
    """A fault says which name is wrong and what is right."""
    message = tiny_asked.fault({"temprature": 1, "response_format": {}}).message
    assert "did you mean 'temperature'?" in message
    assert "write response.schema" in message


def test_a_request_that_is_cancelled_leaves_the_engine(tiny_asked: Asking) -> None:
    """Nobody waits for it, so nothing is generated any more."""

    async def cancelled() -> int:
        task = asyncio.create_task(tiny_asked.worker.ask([request({"max_tokens": 900, "ignore_eos": True})]))
        await tiny_asked.busy(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return tiny_asked.worker.unfinished

    assert tiny_asked.runner.run(cancelled()) == 0


def test_what_is_loaded_can_be_told(tiny_asked: Asking, tiny: Path) -> None:
    """Model, precision, device and context of the running engine."""
    loaded = tiny_asked.worker.loaded
    assert (loaded.model, loaded.dtype, loaded.device, loaded.context) == (str(tiny), "float32", "cpu", 1024)


def test_the_engines_death_is_that_of_the_worker(tiny_asked: Asking) -> None:
    """Killed, it takes along what is in flight, says how it ended, and answers nothing more."""

    async def killed() -> list[BaseException | str]:
        long = request({"max_tokens": 900, "ignore_eos": True})
        tasks = [asyncio.create_task(tiny_asked.worker.ask([long])) for _ in range(3)]
        await tiny_asked.busy(3)
        for pid in tiny_asked.worker.pids:
            os.kill(pid, signal.SIGKILL)
        found = await asyncio.gather(*tasks, tiny_asked.worker.ask([request()]), return_exceptions=True)
        return [one if isinstance(one, BaseException) else "answered" for one in found]

    ends = tiny_asked.runner.run(killed())
    assert all(isinstance(end, WorkerLostError) for end in ends), ends
    assert [end.fault.kind for end in ends if isinstance(end, WorkerLostError)] == [FaultKind.LOST] * 4
    assert "signal 9" in str(ends[0])
    assert tiny_asked.worker.lost


def test_a_worker_with_an_adapter_starts_after_one_that_died(tiny: Path, lora: Path, tmp_path: Path) -> None:
    """One engine does not stand in the way of the next; closed, its processes are gone, and its log is where asked."""
    log = tmp_path / "engine.log"
    with asyncio.Runner() as runner:
        worker = runner.run(start_logged(tiny, lora, log))
        asked = Asking(runner, worker)
        adapted = asked.reply({"temperature": 0, "max_tokens": 12})
        pids = worker.pids
        runner.run(worker.close())
    assert adapted.usage is not None
    assert log.exists()
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def start_logged(tiny: Path, lora: Path, log: Path) -> object:
    from dataclasses import replace

    from synth_cli.engines.vllm.worker import VllmWorker

    return await VllmWorker.start(replace(settings(tiny, lora_path=str(lora)), log=str(log)))


def test_an_engine_that_cannot_start_says_why(tmp_path: Path, tiny: Path) -> None:
    """A wrong argument and a model that is not there are setup errors that name themselves."""
    from synth_cli.engines.vllm.worker import VllmWorker

    for told, words in (
        (settings(tiny, engine_args={"max_modle_len": 5}), "vLLM has no argument 'max_modle_len'"),
        (settings(tmp_path / "nothing"), "nothing"),
        (settings(tiny, max_model_length=99999), "99999"),
        (settings(tiny, engine_args={"tool_call_parser": "nobodys"}), "nobodys"),
    ):
        with pytest.raises(SetupError, match=re.escape(words)):
            asyncio.run(VllmWorker.start(told))

"""One copy of a model in vLLM's own engine, asked by name and answered in whole bodies.

The engine runs in processes of its own: when one dies this one goes on, and says so with `WorkerLostError`.
Requests are neither counted nor bounded here: that is for whoever feeds the worker.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import active_children
from typing import Any

from synth_cli.core.ports import Exchange, WorkerLostError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Request, Terms
from synth_cli.engines.vllm import params, starting
from synth_cli.engines.vllm.answers import Manner, exchanges
from synth_cli.engines.vllm.faults import fault_of
from synth_cli.engines.vllm.hearing import Hearing
from synth_cli.engines.vllm.prompts import Prompts
from synth_cli.engines.vllm.sampling import Sampling
from synth_cli.engines.vllm.settings import ModelSettings
from synth_cli.errors import SetupError, SynthError

PATIENCE = 5.0
"""Seconds that the engine has to end by itself before it is killed."""
REMEMBERED = 256
"""Terms whose sampling is kept: a step has one, a step with parameters or choices per row one for each row."""
TIMED = 8
"""Of so many calls one is timed to its first token: that costs a tenth of all the rest that is done for a row here."""
LOOK = 0.5
"""Seconds between looks at the log while the engine starts."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What all requests of one `Terms` have in common."""

    asked: params.Asked
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Loaded:
    """What runs, for people."""

    model: str
    version: str
    device: str
    dtype: str
    context: int
    """Tokens of a prompt and its answer together."""
    seconds: float
    """That the start took."""


class VllmWorker:
    """Satisfies `core.ports.Worker`."""

    def __init__(self, engine: Any, settings: ModelSettings, launch: starting.Launch, loaded: Loaded) -> None:
        self._engine = engine
        self._settings = settings
        self._launch = launch
        self.loaded = loaded
        self._prompts = Prompts(engine, settings)
        self._hearing = Hearing(engine, settings)
        self._lora = _lora_request(settings)
        self._defaults: Mapping[str, Any] = engine.model_config.get_diff_sampling_param()
        self._prepared: dict[bytes, Prepared] = {}
        self._processes = _processes(engine)
        self._calls = count()
        self._closed = False

    @classmethod
    async def start(cls, settings: ModelSettings, *, say: Callable[[str], None] = lambda text: None) -> VllmWorker:
        """Loads the model; `say` is told how far it is. Takes from seconds to many minutes.

        Raises SetupError with the engine's own words, MissingExtra without vLLM.
        """
        launch = starting.Launch(settings.log)
        began = time.monotonic()
        say("importing vLLM")
        telling = asyncio.create_task(_tell(launch, say))
        unwanted = threading.Event()
        others = frozenset(active_children())
        try:
            engine = await asyncio.to_thread(_load, settings, launch, unwanted)
        except asyncio.CancelledError:
            # whoever gives up waiting must not leave an engine behind that nobody knows, nor wait until it is up
            unwanted.set()
            for child in frozenset(active_children()) - others:
                child.kill()
            launch.tidy()
            raise
        finally:
            telling.cancel()
        try:
            worker = cls(engine, settings, launch, _loaded(engine, settings, time.monotonic() - began))
        except (TypeError, ValueError) as error:
            # a parser that vLLM does not have, or that does not fit the model
            await _ended(engine)
            launch.guard.dismiss()
            raise starting.refusal(error, launch) from error
        say(f"{worker.loaded.model} ready: {worker.loaded.dtype}, context {worker.loaded.context}")
        return worker

    @property
    def pids(self) -> tuple[int, ...]:
        """The engine's processes."""
        return tuple(process.pid for process in self._processes if process.pid is not None)

    @property
    def lost(self) -> bool:
        """Whether the engine has ended by itself."""
        return bool(self._engine.errored)

    @property
    def unfinished(self) -> int:
        """Samples that the engine is at work on, or will be."""
        return int(self._engine.get_num_unfinished_requests())

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        """One exchange for each request. Cancelled, it takes its requests out of the engine."""
        if self._closed:
            raise WorkerLostError(Fault(FaultKind.LOST, "the worker is closed"))
        try:
            prepared = self._prepare(requests[0].terms)
            calls = together(requests, prepared.sampling.greedy)
        except Exception as error:  # noqa: BLE001 - vLLM's own checks of values, see `_call`
            return (Exchange(fault=fault_of(error)),) * len(requests)
        if len(calls) == 1:
            return await self._call(calls[0], prepared)
        answered = await asyncio.gather(*(self._call(call, prepared) for call in calls))
        return [exchange for call in answered for exchange in call]

    async def close(self) -> None:
        """Ends the engine; its processes are gone on return. What is still being asked must be cancelled before."""
        if self._closed:
            return
        self._closed = True
        await _ended(self._engine, self._processes)
        self._launch.drop()

    def _prepare(self, terms: Terms) -> Prepared:
        known = self._prepared.get(terms.digest)
        if known is None:
            asked = params.asked(terms.params)
            said = dict(asked.sampling)
            # what a request is sent with is its own seed
            if isinstance(said.get("seed"), int) and not isinstance(said["seed"], bool):
                del said["seed"]
            known = Prepared(asked, Sampling(said, terms.constraint, defaults=self._defaults))
            if len(self._prepared) >= REMEMBERED:
                self._prepared.clear()
            self._prepared[terms.digest] = known
        return known

    async def _call(self, requests: Sequence[Request], prepared: Prepared) -> Sequence[Exchange]:
        request, n = requests[0], len(requests)
        terms, asked, sampling = request.terms, prepared.asked, prepared.sampling
        try:
            timed = next(self._calls) % TIMED == 0
            sampled = sampling.of(n, request.seed, timed=timed)
            more: Mapping[str, Any] = {}
            hear = None
            if not terms.completion and (terms.tools or self._hearing.always):
                dialogue = await self._hearing.of(request, asked, terms.constraint)
                prompt, more, hear = dialogue.engine_input, dialogue.generate, dialogue.hear
                sampled.structured_outputs = dialogue.structured_outputs
                if dialogue.skip_special_tokens is not None:
                    sampled.skip_special_tokens = dialogue.skip_special_tokens
            else:
                prompt = await self._prompts.of(request, asked)
            began = time.monotonic()
            outcome, first = None, None
            async for part in self._engine.generate(
                prompt,
                sampled,
                request.id.hex(),
                lora_request=self._lora,
                priority=asked.call.get("priority", 0),
                **more,
            ):
                if outcome is None:
                    outcome, first = part, time.monotonic() - began
                else:
                    outcome.add(part, aggregate=True)
            if outcome is None:
                raise RuntimeError("vLLM gave no answer")
            manner = Manner(terms.model, terms.completion, sampling.logprobs, first if timed else None)
            return exchanges(outcome, manner, hear)
        except Exception as error:
            # templates, parsers, processors of images, the engine: a row can be at odds with any of them, and
            # whatever they raise is one row's trouble as long as the engine lives
            if self._engine.errored:
                raise WorkerLostError(await self._death()) from error
            return (Exchange(fault=fault_of(error)),) * n

    async def _death(self) -> Fault:
        # the engine's end is heard of before its exit code is known
        for _ in range(20):
            if any(process.exitcode is not None for process in self._processes):
                break
            await asyncio.sleep(0.05)
        codes = [process.exitcode for process in self._processes if process.exitcode]
        how = "ended" if not codes else _ending(codes[0])
        return Fault(FaultKind.LOST, f"vLLM's engine {how}")


def together(requests: Sequence[Request], greedy: bool) -> list[Sequence[Request]]:
    """The requests in groups that one call can answer: vLLM gives each further sample the next seed.

    Samples without chance are all the same, and vLLM refuses to draw several of them at once.
    """
    groups: list[list[Request]] = []
    for request in requests:
        last = groups[-1][-1] if groups else None
        follows = last is not None and not greedy and request.terms.digest == last.terms.digest
        if follows and last is not None:
            follows = request.seed is last.seed if last.seed is None else request.seed == last.seed + 1
        if follows:
            groups[-1].append(request)
        else:
            groups.append([request])
    return list(groups)


def _still(unwanted: threading.Event) -> None:
    if unwanted.is_set():
        raise SetupError("the start of the engine was given up")


def _load(settings: ModelSettings, launch: starting.Launch, unwanted: threading.Event) -> Any:
    with starting.quiet(launch):
        try:
            args = starting.engine_args(settings)
            starting.logged(launch)
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.async_llm import AsyncLLM
            from vllm.v1.executor import Executor

            config = args.create_engine_config(UsageContext.ENGINE_CONTEXT)
            _still(unwanted)
            engine = AsyncLLM(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_requests=args.enable_log_requests,
                # measuring every token costs more than all the rest that is done for a row here
                log_stats=False,
                usage_context=UsageContext.ENGINE_CONTEXT,
            )
            if unwanted.is_set():
                _end(engine)
            _still(unwanted)
            return engine
        except SynthError:
            launch.guard.dismiss()
            raise
        except Exception as error:
            launch.guard.dismiss()
            # a model, a folder, a device, a version: there is no end to what can keep it from starting
            raise starting.refusal(error, launch) from error


def _loaded(engine: Any, settings: ModelSettings, seconds: float) -> Loaded:
    import vllm
    from vllm.platforms import current_platform

    config = engine.model_config
    return Loaded(
        settings.model,
        vllm.__version__,
        str(current_platform.device_type),
        str(config.dtype).removeprefix("torch."),
        config.max_model_len,
        seconds,
    )


def _lora_request(settings: ModelSettings) -> Any:
    if settings.lora_path is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, settings.lora_path)


def _processes(engine: Any) -> tuple[Any, ...]:
    manager = getattr(engine.engine_core.resources, "engine_manager", None)
    return tuple(getattr(manager, "processes", ()))


async def _ended(engine: Any, processes: Sequence[Any] = ()) -> None:
    if engine.output_handler is not None:
        # it would take the end for a death, and write that to the log
        engine.output_handler.cancel()
    await asyncio.to_thread(_end, engine, processes)
    # its sockets are closed by a call that waits for the loop; their context it leaves to chance
    await asyncio.sleep(0)
    context = getattr(engine.engine_core.resources, "ctx", None)
    if context is not None:
        context.destroy(linger=0)


def _end(engine: Any, processes: Sequence[Any] = ()) -> None:
    import psutil

    processes = processes or _processes(engine)
    family = []
    for process in processes:
        with suppress(psutil.Error):
            one = psutil.Process(process.pid)
            family += [*one.children(recursive=True), one]
    engine.shutdown(timeout=PATIENCE)
    # it would end itself once more when it is collected, perhaps with half of Python gone already
    engine.shutdown = lambda timeout=None: None
    for one in psutil.wait_procs(family, timeout=PATIENCE)[1]:
        with suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(family, timeout=PATIENCE)


async def _tell(launch: starting.Launch, say: Callable[[str], None]) -> None:
    told: list[str] = []
    while True:
        await asyncio.sleep(LOOK)
        for line in launch.text().splitlines():
            stage = starting.stage(line)
            if stage is not None and stage not in told:
                told.append(stage)
                say(stage)


def _ending(code: int) -> str:
    if code == -9:
        return "was killed (signal 9); the machine may have been out of memory"
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

"""Reasoning and tool calls: prompts and answers of models whose text says more than the answer.

vLLM has a parser for each family's way of writing them. Used only where one is asked for (`reasoning_parser`,
`tool_call_parser` among the engine arguments) or where the model cannot do without (gpt-oss).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synth_cli.core.request import Constraint, Request
from synth_cli.engines.vllm import constraints
from synth_cli.engines.vllm.answers import Heard, Output
from synth_cli.engines.vllm.params import Asked, ParamError
from synth_cli.engines.vllm.prompts import template_args
from synth_cli.engines.vllm.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A request as vLLM's parsers see it, and what they changed of it."""

    engine_input: Any
    skip_special_tokens: bool | None
    structured_outputs: Any
    generate: Mapping[str, Any]
    """More arguments of `AsyncLLM.generate`."""
    hear: Callable[[Output], Heard]


class Hearing:
    """The parsers of one engine. Raises SetupError-worthy TypeErrors of vLLM for a parser that it does not have."""

    def __init__(self, engine: Any, settings: ModelSettings) -> None:
        from vllm.renderers.online_renderer import OnlineRenderer

        self._settings = settings
        self._engine = engine
        self._online = OnlineRenderer(
            engine.model_config,
            engine.renderer,
            request_logger=None,
            chat_template=settings.chat_template,
            chat_template_content_format=settings.content_format,
            # whose spec it is, is whose machine it is
            trust_request_chat_template=True,
            trust_request_mm_kwargs=True,
            enable_auto_tools=settings.tool_parser is not None,
            exclude_tools_when_tool_choice_none=True,
            tool_parser=settings.tool_parser,
            reasoning_parser=settings.reasoning_parser,
            tool_strict_level=settings.tool_strict_level,
        )

    @property
    def always(self) -> bool:
        """Whether every chat goes through a parser."""
        return self._settings.reasoning_parser is not None or bool(self._online.use_harmony)

    @property
    def calls(self) -> bool:
        """Whether tool calls can be told from text."""
        return self._settings.tool_parser is not None or bool(self._online.use_harmony)

    async def of(self, request: Request, asked: Asked, constraint: Constraint | None) -> Dialogue:
        """The prompt and how to read what comes. Raises ParamError, and vLLM's errors."""
        terms = request.terms
        if terms.tools and not self.calls and terms.tool_choice != "none":
            raise ParamError(
                "the model's tool calls cannot be told from text without a parser: "
                "write engine_args: {tool_call_parser: hermes}, or the one that vLLM has for this model"
            )
        chat = self._request(request, asked, constraint)
        told = self._online.effective_chat_template_kwargs(chat)
        rendered = await self._online.render_chat(chat)
        if not isinstance(rendered, tuple):
            raise ParamError(rendered.error.message)
        engine_input = rendered[1][0]
        parser = self._parser(chat, told)
        generate: dict[str, Any] = {}
        if parser is not None and parser.reasoning_parser is not None:
            ids = engine_input.get("prompt_token_ids") or []
            generate["reasoning_ended"] = chat.resolve_reasoning_ended(parser, ids)
            generate["reasoning_parser_kwargs"] = {"chat_template_kwargs": told}

        def hear(output: Output) -> Heard:
            return self._heard(output, chat, told, engine_input)

        return Dialogue(
            engine_input,
            # parsers look for tokens that are not shown to anybody else
            None if chat.skip_special_tokens else False,
            chat.extract_structured_outputs(),
            generate,
            hear,
        )

    def _request(self, request: Request, asked: Asked, constraint: Constraint | None) -> Any:
        from pydantic import ValidationError
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        terms = request.terms
        args = template_args(request.messages, asked.chat, self._settings.template_args)
        said: dict[str, Any] = {
            "messages": [dict(message) for message in request.messages],
            "model": terms.model,
            "add_generation_prompt": args.pop("add_generation_prompt"),
            "continue_final_message": args.pop("continue_final_message"),
            **{name: asked.chat[name] for name in ("chat_template", "mm_processor_kwargs") if name in asked.chat},
            **{name: asked.chat[name] for name in ("documents", "reasoning_effort") if name in asked.chat},
            **asked.prompt,
            **{name: value for name, value in asked.call.items() if name != "priority"},
        }
        for name in ("documents", "reasoning_effort"):
            args.pop(name, None)
        if args:
            said["chat_template_kwargs"] = args
        if terms.tools:
            said["tools"] = [dict(tool) for tool in terms.tools]
            said["tool_choice"] = terms.tool_choice or "auto"
        if constraint is not None:
            said["structured_outputs"] = constraints.fields(constraint)
        try:
            return ChatCompletionRequest.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][:3])
            raise ParamError(f"{where}: {first['msg']}") from None

    def _parser(self, chat: Any, told: Mapping[str, Any]) -> Any:
        if self._online.parser is None:
            return None
        return self._online.parser(
            self._engine.renderer.get_tokenizer(),
            chat.tools,
            chat_template_kwargs=told,
            model_config=self._engine.model_config,
        )

    def _heard(self, output: Output, chat: Any, told: Mapping[str, Any], engine_input: Any) -> Heard:
        # of its own for each sample: parsers keep what they have read
        parser = self._parser(chat, told)
        if parser is None:
            return Heard(output.text)
        parser.set_prompt_token_ids(engine_input.get("prompt_token_ids") or [])
        reasoning, content, calls = parser.parse(
            output.text, chat, enable_auto_tools=self.calls, model_output_token_ids=output.token_ids
        )
        if chat.parallel_tool_calls is False and calls:
            calls = calls[:1]
        return Heard(
            content,
            reasoning if chat.include_reasoning else None,
            tuple(_call(place, call) for place, call in enumerate(calls or ())),
            parser.count_reasoning_tokens(output.token_ids),
        )


def _call(place: int, call: Any) -> dict[str, Any]:
    return {
        # vLLM's own are drawn: the same answer is to be the same bytes. Some families have theirs from the model
        "id": f"call_{place}" if not call.id or call.id.startswith("chatcmpl-") else call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }

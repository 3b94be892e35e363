"""Messages or a raw prompt → what vLLM's engine takes: tokens, and the images and sounds among them.

The chat template, tool definitions and media are rendered by vLLM's own renderer, which knows each family's ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synth_cli.core.request import Message, Request
from synth_cli.engines.vllm.params import Asked
from synth_cli.engines.vllm.settings import ModelSettings

INLINE = 4096
"""Characters up to which a prompt is tokenised where it is: handing it to a thread costs more than that saves."""


class Prompts:
    """Renders the prompts of one engine. Raises vLLM's errors: their reader is `faults.fault_of`."""

    def __init__(self, engine: Any, settings: ModelSettings) -> None:
        from vllm.renderers import ChatParams
        from vllm.utils.mistral import is_mistral_tokenizer

        self._chat_params = ChatParams
        self._renderer = engine.renderer
        self._settings = settings
        self._tokenize = is_mistral_tokenizer(engine.renderer.tokenizer)
        self._bos = str(getattr(engine.renderer.tokenizer, "bos_token", None) or "")

    async def of(self, request: Request, asked: Asked) -> Any:
        if request.terms.completion:
            return await self._completion(request.prompt or "", asked)
        return await self._chat(request.messages, asked)

    async def _completion(self, prompt: str, asked: Asked) -> Any:
        said = dict(asked.prompt)
        if self._bos and prompt.startswith(self._bos):
            # formats like llama2's begin with it: a second one is not what the model was trained on
            said.setdefault("add_special_tokens", False)
        params = self._renderer.default_cmpl_tok_params.with_kwargs(**said)
        extras = _extras(asked)
        if len(prompt) <= INLINE:
            return self._renderer.render_cmpl([{"prompt": prompt}], params, prompt_extras=extras)[0]
        return (await self._renderer.render_cmpl_async([{"prompt": prompt}], params, prompt_extras=extras))[0]

    async def _chat(self, messages: Sequence[Message], asked: Asked) -> Any:
        told = asked.chat
        chat = self._chat_params(
            chat_template=told.get("chat_template") or self._settings.chat_template,
            chat_template_content_format=self._settings.content_format,
            chat_template_kwargs=template_args(messages, told, self._settings.template_args)
            | {"tokenize": self._tokenize},
            media_io_kwargs=told.get("media_io_kwargs"),
            mm_processor_kwargs=told.get("mm_processor_kwargs"),
        )
        params = self._renderer.default_chat_tok_params.with_kwargs(**asked.prompt)
        extras = _extras(asked)
        conversation = [dict(message) for message in messages]
        if _short(messages):
            return self._renderer.render_chat([conversation], chat, params, prompt_extras=extras)[1][0]
        rendered = await self._renderer.render_chat_async([conversation], chat, params, prompt_extras=extras)
        return rendered[1][0]


def template_args(messages: Sequence[Message], told: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What the chat template is given. A final message of the assistant is continued where nothing else is said."""
    ends_open = bool(messages) and messages[-1].get("role") == "assistant"
    proceed = told.get("continue_final_message")
    if proceed is None:
        proceed = ends_open and not told.get("add_generation_prompt")
    args: dict[str, Any] = {
        "add_generation_prompt": bool(told.get("add_generation_prompt", not proceed)),
        "continue_final_message": bool(proceed),
    }
    args |= {name: told[name] for name in ("documents", "reasoning_effort") if name in told}
    return {**defaults, **dict(told.get("chat_template_kwargs") or {}), **args}


def _short(messages: Sequence[Message]) -> bool:
    """Whether the messages are little text and nothing else: media are read and turned into tensors."""
    length = 0
    for message in messages:
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            return False
        length += len(content or "")
    return length <= INLINE


def _extras(asked: Asked) -> dict[str, Any]:
    said = {**asked.chat, **asked.call}
    return {name: said[name] for name in ("mm_processor_kwargs", "cache_salt") if name in said}

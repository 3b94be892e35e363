"""Messages or a raw prompt → what vLLM's engine takes: tokens, and the images and sounds among them.

The chat template, tool definitions and media are rendered by vLLM's own renderer, which knows each family's ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synth_cli.core.request import Message, Request
from synth_cli.engines.vllm.params import Asked, ParamError
from synth_cli.engines.vllm.settings import ModelSettings

INLINE = 4096
"""Characters up to which a prompt is tokenised where it is: handing it to a thread costs more than that saves."""


ROLES = frozenset({"system", "user", "assistant"})


class Prompts:
    """Renders the prompts of one engine. Raises vLLM's errors: their reader is `faults.fault_of`."""

    def __init__(self, engine: Any, settings: ModelSettings) -> None:
        from vllm.renderers import ChatParams
        from vllm.renderers.hf import HfRenderer
        from vllm.utils.mistral import is_mistral_tokenizer

        self._chat_params = ChatParams
        self._renderer = engine.renderer
        self._settings = settings
        self._tokenize = is_mistral_tokenizer(engine.renderer.tokenizer)
        self._model_config = engine.model_config
        self._plain = isinstance(engine.renderer, HfRenderer) and not engine.model_config.is_multimodal_model
        self._templates: dict[str | None, str | None] = {}
        self._taken: dict[tuple[str, ...], frozenset[str]] = {}
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
        args = template_args(messages, told, self._settings.template_args)
        template = told.get("chat_template") or self._settings.chat_template
        params = self._renderer.default_chat_tok_params
        if asked.prompt:
            params = params.with_kwargs(**asked.prompt)
        extras = _extras(asked)
        if all(map(_plain, messages)):
            text = self._text(messages, template, args)
            if text is not None and len(text) <= INLINE:
                return self._renderer.render_cmpl([{"prompt": text}], params, prompt_extras=extras)[0]
            if text is not None:
                rendered = await self._renderer.render_cmpl_async([{"prompt": text}], params, prompt_extras=extras)
                return rendered[0]
        chat = self._chat_params(
            chat_template=template,
            chat_template_content_format=self._settings.content_format,
            chat_template_kwargs={**args, "tokenize": self._tokenize},
            media_io_kwargs=told.get("media_io_kwargs"),
            mm_processor_kwargs=told.get("mm_processor_kwargs"),
        )
        conversation = [dict(message) for message in messages]
        rendered = await self._renderer.render_chat_async([conversation], chat, params, prompt_extras=extras)
        return rendered[1][0]

    def _text(self, messages: Sequence[Message], template: str | None, args: dict[str, Any]) -> str | None:
        """Messages that are plain text through the template itself, for which vLLM's renderer takes twice the time.

        None where the model's own way of rendering is another.
        """
        from vllm.renderers.hf import resolve_chat_template_kwargs

        if not self._plain:
            return None
        if template not in self._templates:
            self._templates[template] = self._simple(template)
        simple = self._templates[template]
        if simple is None:
            return None
        tokenizer = self._renderer.get_tokenizer()
        names = (simple, *args)
        taken = self._taken.get(names)
        if taken is None:
            # looked up in the template's text and in signatures: not for every row
            taken = self._taken[names] = frozenset(resolve_chat_template_kwargs(tokenizer, simple, args))
        known = {name: value for name, value in args.items() if name in taken}
        try:
            said = tokenizer.apply_chat_template(list(messages), chat_template=simple, tokenize=False, **known)
        except Exception as error:
            # templates refuse messages by whatever their authors raise
            raise ParamError(f"the chat template refuses these messages: {error}") from error
        return str(said)

    def _simple(self, template: str | None) -> str | None:
        """The template in force, if it takes contents that are texts."""
        from vllm.renderers.hf import resolve_chat_template, resolve_chat_template_content_format

        tokenizer = self._renderer.get_tokenizer()
        way = resolve_chat_template_content_format(
            chat_template=template,
            tools=None,
            given_format=self._settings.content_format,
            tokenizer=tokenizer,
            model_config=self._model_config,
        )
        if way != "string":
            return None
        found = resolve_chat_template(tokenizer, chat_template=template, tools=None, model_config=self._model_config)
        return None if found is None else str(found)


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


def _plain(message: Message) -> bool:
    """Whether it is a turn of text and nothing else: no parts, no calls, no role that templates differ about."""
    return len(message) == 2 and isinstance(message.get("content"), str) and message.get("role") in ROLES


def _extras(asked: Asked) -> dict[str, Any] | None:
    if not asked.chat and not asked.call:
        return None
    said = {**asked.chat, **asked.call}
    return {name: said[name] for name in ("mm_processor_kwargs", "cache_salt") if name in said}

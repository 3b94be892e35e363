"""The conversation of a re-ask."""

from __future__ import annotations

from typing import Any

from synth_cli.core.reply import Reply
from synth_cli.core.state import Invalid
from synth_cli.responses.feedback import feedback

INVALID = Invalid("schema", "title: 3 is not a string")
NOTE = "Your answer is not valid: title: 3 is not a string\nAnswer again, in full, with this put right. Do not explain."
ASKED: tuple[dict[str, Any], ...] = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})


def test_the_model_sees_its_answer_and_what_was_wrong() -> None:
    """The old messages, its own answer, the error."""
    assert feedback(ASKED, Reply(text='{"title": 3}'), INVALID) == (
        *ASKED,
        {"role": "assistant", "content": '{"title": 3}'},
        {"role": "user", "content": NOTE},
    )


def test_without_an_answer_the_last_user_turn_says_it() -> None:
    """No empty assistant turn and no two user turns in a row; the old messages stay as they are."""
    assert feedback(ASKED, Reply(text=None), INVALID) == (ASKED[0], {"role": "user", "content": f"u\n\n{NOTE}"})
    assert ASKED[1] == {"role": "user", "content": "u"}


def test_a_turn_of_parts_gets_one_more() -> None:
    """An image stays beside the note."""
    asked = ({"role": "user", "content": [{"type": "text", "text": "u"}]},)
    wanted = {"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "text", "text": NOTE}]}
    assert feedback(asked, Reply(text=" "), INVALID) == (wanted,)


def test_a_conversation_that_ends_otherwise_gets_a_turn() -> None:
    """After a tool's result, for example."""
    asked = ({"role": "tool", "content": "4"},)
    assert feedback(asked, Reply(), INVALID) == (*asked, {"role": "user", "content": NOTE})

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from synth_cli.compile.parts import MessageError, messages_of, text_of
from synth_cli.compile.requests import params_of
from synth_cli.compile.tools import tools_of

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_file_that_is_no_image_is_not_sent_as_one(tmp_path: Path) -> None:
    """The path may come from the data, and a key or a password must not leave the machine by it."""
    (tmp_path / "id_rsa").write_bytes(b"secret")
    (tmp_path / "picture").write_bytes(PNG)
    (tmp_path / "new.avif").write_bytes(b"....ftypavif")
    for name in ("picture", "new.avif"):
        assert messages_of([{"role": "user", "content": [{"type": "image", "source": name}]}], tmp_path)
    with pytest.raises(MessageError, match="id_rsa is no image"):
        messages_of([{"role": "user", "content": [{"type": "image", "source": "id_rsa"}]}], tmp_path)


def test_text_holds_integers_beyond_64_bits() -> None:
    """Every digit, alone and within a value that becomes JSON."""
    assert text_of(10**30 + 1) == "1000000000000000000000000000001"
    assert text_of({"n": [10**30 + 1]}) == '{"n":[1000000000000000000000000000001]}'


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "odd", "odd": 2**70}]},
        {"role": "user", "content": [{"type": "image", "source": "https://x/y.png", "detail": 2**70}]},
        {"role": "assistant", "content": None, "tool_calls": [{"n": 2**70}]},
        {"role": "assistant", "content": "yes", "odd": [2**70]},
    ],
)
def test_what_no_request_can_hold_is_said_of_its_message(message: Mapping[str, Any], tmp_path: Path) -> None:
    """It is the row's fault, not the run's."""
    with pytest.raises(MessageError, match="message 1 cannot be sent: Integer exceeds 64-bit range"):
        messages_of([message], tmp_path)


def test_tools_and_parameters_of_a_row_can_be_sent() -> None:
    """Or the row says which of them cannot."""
    with pytest.raises(MessageError, match="tools cannot be sent"):
        tools_of([{"name": "f", "parameters": {"maximum": 2**70}}])
    with pytest.raises(MessageError, match="the column generation_params cannot be sent"):
        params_of({"seed": 2**70})

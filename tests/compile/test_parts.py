from __future__ import annotations

from pathlib import Path

import pytest

from synth_cli.compile.parts import MessageError, messages_of

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

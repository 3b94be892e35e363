"""`synth schema`: the spec's JSON Schema, for editors."""

from __future__ import annotations

import sys


def schema() -> int:
    """Print the JSON Schema of specs."""
    import orjson

    from synth_cli.spec.editor import editor_schema

    sys.stdout.write(orjson.dumps(editor_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0

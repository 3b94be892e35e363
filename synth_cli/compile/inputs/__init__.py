"""Where rows come from: `read` gives them one by one, the others tell what can be told without reading."""

from synth_cli.compile.inputs.counting import count_rows, known_columns
from synth_cli.compile.inputs.reading import Tally, read
from synth_cli.compile.inputs.sources import named, volatile
from synth_cli.core.identity import Contents, row_id

__all__ = ["Contents", "Tally", "count_rows", "known_columns", "named", "read", "row_id", "volatile"]

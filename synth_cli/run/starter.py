"""The spec that `synth init` writes: small, commented, and running as it is."""

from __future__ import annotations

STARTER = """\
# A job for synth. Check it:  synth validate {name}.yaml      What would it cost?  synth plan {name}.yaml
#                   Run it:    synth run {name}.yaml           See the requests:    synth preview {name}.yaml
version: 1
name: {name}

# `simulator` answers without a key, a network or a bill. For the real thing: openai/gpt-5-mini,
# anthropic/claude-haiku-4-5, or any model behind `backend_params: {{base_url: http://localhost:8000/v1}}`.
model: simulator
generation_params: {{temperature: 0.8, max_tokens: 400}}

# Where rows come from: here the product of two lists. Also `path: rows.csv` (jsonl, parquet, globs, URLs),
# `dataset: owner/name`, `rows: [...]`, `count: 100`, `sql: {{url, query}}`.
input:
  matrix:
    topic: [bread, bicycles, tides]
    level: [beginner, expert]

# Templates are Jinja; each column of the input is a name.
prompt:
  system: You write short, exact study questions.
  user: Write a question about {{{{ topic }}}} for a {{{{ level }}}}, and its answer.

# What a valid answer is. Each field becomes a column; what does not fit is asked again.
response:
  schema:
    question: {{type: str, min_length: 5}}
    answer: str
    difficulty: enum[easy, medium, hard]

output:
  path: {name}.jsonl        # or .parquet, .csv, .jsonl.zst; a list writes several
"""


def starter(name: str) -> str:
    """The starter spec under this name."""
    return STARTER.format(name=name)

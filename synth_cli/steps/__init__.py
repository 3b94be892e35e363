"""Steps without a model: rows → rows. One row at a time, or all rows of the step before.

Also what the input's drawn columns and the shaping of answers are made of: samplers, and a step's `carry`, `each`,
`columns` and `keep_if`.
"""

from synth_cli.steps.python import Python
from synth_cli.steps.stage import Each, Whole, stage

__all__ = ["Each", "Python", "Whole", "stage"]

"""`synth status`: where a job stands."""

from __future__ import annotations

import os
import sys

from synth_cli.cli.options import Json, Part, Profile, Sets, Simulate, SpecFile, StateDir


def status(
    spec: SpecFile,
    sets: Sets = None,
    profile: Profile = None,
    simulate: Simulate = False,
    shard: Part = None,
    state_dir: StateDir = None,
    json: Json = False,
) -> int:
    """Say where the job stands.

    The provider is asked how open batches stand; the model is asked nothing, and nothing is changed.
    """
    from synth_cli.run.options import RunOptions
    from synth_cli.run.sharding import parsed
    from synth_cli.run.status import as_json, as_text, stand

    options = RunOptions(
        sets=tuple(sets or ()), profile=profile, simulate=simulate, state_dir=state_dir, shard=parsed(shard)
    )
    standing = stand(spec, options, environ=os.environ)
    if json:
        sys.stdout.buffer.write(as_json(standing) + b"\n")
    else:
        sys.stdout.write(as_text(standing))
    return 0

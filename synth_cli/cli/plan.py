"""`synth plan`: what a run would do, without a call."""

from __future__ import annotations

import os
import sys

from synth_cli.cli.options import Json, Limit, Part, Profile, Sets, Simulate, SpecFile, StateDir


def plan(
    spec: SpecFile,
    sets: Sets = None,
    profile: Profile = None,
    limit: Limit = None,
    simulate: Simulate = False,
    shard: Part = None,
    state_dir: StateDir = None,
    json: Json = False,
) -> int:
    """Say what a run would do.

    Rows, requests (new, answered, failed before), tokens and cost, low to high. No call is made.
    """
    from synth_cli.run.explain import explain
    from synth_cli.run.options import RunOptions
    from synth_cli.run.outlook import as_json, as_text
    from synth_cli.run.sharding import parsed

    options = RunOptions(
        sets=tuple(sets or ()),
        profile=profile,
        limit=limit,
        simulate=simulate,
        state_dir=state_dir,
        shard=parsed(shard),
    )
    outlook = explain(spec, options, environ=os.environ)
    if json:
        sys.stdout.buffer.write(as_json(outlook) + b"\n")
    else:
        sys.stdout.write(as_text(outlook))
    return 0

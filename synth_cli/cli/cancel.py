"""`synth cancel`: ends open batches."""

from __future__ import annotations

import os
import sys

from synth_cli.cli.boundary import say
from synth_cli.cli.options import Part, Profile, Sets, Simulate, SpecFile, StateDir


def cancel(
    spec: SpecFile,
    sets: Sets = None,
    profile: Profile = None,
    simulate: Simulate = False,
    shard: Part = None,
    state_dir: StateDir = None,
) -> int:
    """Cancel the job's open batches.

    What was done in them until then is collected and kept; a later run asks for the rest.
    """
    from synth_cli.report.words import counted
    from synth_cli.run.cancel import cancel as end
    from synth_cli.run.options import RunOptions
    from synth_cli.run.sharding import parsed
    from synth_cli.run.show import display

    options = RunOptions(
        sets=tuple(sets or ()), profile=profile, simulate=simulate, state_dir=state_dir, shard=parsed(shard)
    )
    found = end(spec, options, environ=os.environ, display=display(options))
    asked = counted(found.asked, "batch", "batches")
    print(f"{asked} cancelled; {counted(found.kept, 'answer')} kept", file=sys.stderr)
    if found.error is None:
        return 0
    say(found.error)
    return found.error.exit_code

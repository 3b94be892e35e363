#!/usr/bin/env bash
# For CI and cron: goes on where the last run stopped, stays below a budget, and fails loudly.
#   0  accepted: the files are new         1  below what was asked: the old files are still there
#   4  the budget is used up              75  time is up: the next call goes on
set -uo pipefail
spec=${1:?usage: regenerate.sh SPEC}
synth validate "$spec" || exit
synth run "$spec" --max-time 50m --json > report.json
code=$?
[ "$code" -eq 75 ] && echo "not finished; the next call goes on" >&2
exit "$code"

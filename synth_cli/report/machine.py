"""report.json: the whole report for programs. Keys are stable; new ones may be added.

    version          1
    job              name, description, spec, labels, seed, model, engine, simulated, limit (or null)
    run              number, round, started, ended (ISO 8601, UTC), seconds, exit_code, exit_reason, hint, folder,
                     output_tokens_per_second (of the time of asking, or null)
    rows             in, out, filtered, dropped, failed, kept, unasked, reused, error_rate, per_second (or null),
                     causes and drops (why rows failed, why they were dropped): [{cause, detail, count, example}]
    traffic          of this run, see below
    round_traffic    of the whole round, or null where this run was all of it
    steps            of a job of several, in their order: [{name, rows {in, out, filtered, failed, unasked}, traffic}];
                     the failed are the step's own rows, the traffic is of this run
    limits           what the provider's headers said last, or null: requests_per_minute, tokens_per_minute,
                     input_tokens_per_minute, output_tokens_per_minute, remaining_requests, remaining_tokens,
                     reset_requests, reset_tokens (seconds)
    outputs          [{path, rows, published, note, candidate}]
    notes            [text]
    versions         {name: version}

Traffic: requests, replies, faults {kind: count}, rate_limited, retries, tokens {input, cached, cache_written, output,
reasoning, unmetered}, cost {usd, known_usd, unpriced}, finish_reasons, models, latency_seconds {p50, p95, p99} or
null, first_token_seconds {p50, p95, p99} or null (of answers that say it: vLLM's on one's own machines), first, last
(ISO 8601 or null). `cost.usd` is null unless the price of every answer is known; `known_usd` is that of the answers
whose price is, `unpriced` counts the others. In `finish_reasons` and `models` the empty key counts answers that gave
none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from synth_cli.core.figures import Latency, Traffic
from synth_cli.core.ports import RateLimits
from synth_cli.core.reply import FaultKind, Usage
from synth_cli.report.causes import Cause
from synth_cli.report.figures import Output, Report, Rows, Step

VERSION = 1


def dump(report: Report) -> bytes:
    """Indented JSON with a final newline."""
    return orjson.dumps(_report(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def load(data: bytes) -> Report:
    """The report that was dumped. Raises ValueError for anything else, or a later version."""
    try:
        found = orjson.loads(data)
        if found["version"] != VERSION:
            raise ValueError(f"a report of version {found['version']}; this synth reads version {VERSION}")
        return _read(found)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a report: {error!r}") from error


def _report(report: Report) -> dict[str, Any]:
    rows = report.rows
    return {
        "version": VERSION,
        "job": {
            "name": report.name,
            "description": report.description,
            "spec": report.spec,
            "labels": dict(report.labels),
            "seed": report.seed,
            "model": report.model,
            "engine": report.engine,
            "simulated": report.simulated,
            "limit": report.limited,
        },
        "run": {
            "number": report.run,
            "round": report.round,
            "started": _iso(report.started),
            "ended": _iso(report.ended),
            "seconds": round(report.seconds, 3),
            "exit_code": report.exit_code,
            "exit_reason": report.exit_reason,
            "hint": report.hint,
            "folder": report.folder,
            "output_tokens_per_second": report.output_rate,
        },
        "rows": {
            "in": rows.read,
            "out": rows.out,
            "filtered": rows.filtered,
            "dropped": rows.dropped,
            "failed": rows.failed,
            "kept": rows.kept,
            "unasked": rows.unasked,
            "reused": rows.reused,
            "error_rate": rows.error_rate,
            "per_second": report.rows_per_second,
            "causes": _causes(rows.causes),
            "drops": _causes(rows.drops),
        },
        "traffic": _traffic(report.traffic),
        "round_traffic": None if report.round_traffic is None else _traffic(report.round_traffic),
        "steps": [_step(step) for step in report.steps],
        "limits": None if report.limits is None else asdict(report.limits),
        "outputs": [asdict(output) for output in report.outputs],
        "notes": list(report.notes),
        "versions": dict(report.versions),
    }


def _step(step: Step) -> dict[str, Any]:
    rows = {"in": step.rows_in, "out": step.rows_out, "filtered": step.filtered, "failed": step.failed}
    return {"name": step.name, "rows": {**rows, "unasked": step.unasked}, "traffic": _traffic(step.traffic)}


def _causes(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    return [
        {"cause": cause.what, "detail": cause.detail, "count": cause.count, "example": cause.example}
        for cause in causes
    ]


def _traffic(traffic: Traffic) -> dict[str, Any]:
    usage, latency = traffic.usage, traffic.latency
    return {
        "requests": traffic.requests,
        "replies": traffic.replies,
        "faults": {kind.value: count for kind, count in traffic.faults.items()},
        "rate_limited": traffic.faults.get(FaultKind.RATE_LIMITED, 0),
        "retries": traffic.retries,
        "tokens": {**asdict(usage), "unmetered": traffic.unmetered},
        "cost": {
            "usd": None if traffic.unpriced else traffic.cost,
            "known_usd": traffic.cost,
            "unpriced": traffic.unpriced,
        },
        "finish_reasons": dict(traffic.finish_reasons),
        "models": dict(traffic.models),
        "latency_seconds": None if latency is None else asdict(latency),
        "first_token_seconds": None if traffic.first_token is None else asdict(traffic.first_token),
        "first": None if traffic.first is None else _iso(traffic.first),
        "last": None if traffic.last is None else _iso(traffic.last),
    }


def _read(found: Mapping[str, Any]) -> Report:
    job, run, rows = found["job"], found["run"], found["rows"]
    return Report(
        name=job["name"],
        description=job["description"],
        spec=job["spec"],
        labels=job["labels"],
        seed=job["seed"],
        model=job["model"],
        engine=job["engine"],
        simulated=job["simulated"],
        limited=job["limit"],
        run=run["number"],
        round=run["round"],
        started=_seconds(run["started"]),
        ended=_seconds(run["ended"]),
        exit_code=run["exit_code"],
        exit_reason=run["exit_reason"],
        hint=run["hint"],
        folder=run["folder"],
        rows=Rows(
            read=rows["in"],
            out=rows["out"],
            filtered=rows["filtered"],
            # reports of before there were formats have neither
            dropped=rows.get("dropped", 0),
            failed=rows["failed"],
            kept=rows["kept"],
            unasked=rows["unasked"],
            reused=rows["reused"],
            causes=_read_causes(rows["causes"]),
            drops=_read_causes(rows.get("drops", ())),
        ),
        traffic=_read_traffic(found["traffic"]),
        round_traffic=None if found["round_traffic"] is None else _read_traffic(found["round_traffic"]),
        # reports of before there were several steps have none
        steps=tuple(_read_step(step) for step in found.get("steps", ())),
        limits=None if found["limits"] is None else RateLimits(**found["limits"]),
        outputs=tuple(Output(**output) for output in found["outputs"]),
        notes=tuple(found["notes"]),
        versions=found["versions"],
    )


def _read_step(found: Mapping[str, Any]) -> Step:
    rows = found["rows"]
    return Step(
        found["name"],
        rows["in"],
        rows["out"],
        rows["filtered"],
        rows["failed"],
        rows["unasked"],
        _read_traffic(found["traffic"]),
    )


def _read_causes(found: Sequence[Mapping[str, Any]]) -> tuple[Cause, ...]:
    return tuple(Cause(cause["cause"], cause["count"], cause["detail"], cause["example"]) for cause in found)


def _read_traffic(found: Mapping[str, Any]) -> Traffic:
    tokens, latency = dict(found["tokens"]), found["latency_seconds"]
    # reports that were written before it was measured have none
    first_token = found.get("first_token_seconds")
    unmetered = tokens.pop("unmetered")
    return Traffic(
        replies=found["replies"],
        faults={FaultKind(kind): count for kind, count in found["faults"].items()},
        retries=found["retries"],
        usage=Usage(**tokens),
        unmetered=unmetered,
        cost=found["cost"]["known_usd"],
        unpriced=found["cost"]["unpriced"],
        finish_reasons=found["finish_reasons"],
        models=found["models"],
        latency=None if latency is None else Latency(**latency),
        first=None if found["first"] is None else _seconds(found["first"]),
        last=None if found["last"] is None else _seconds(found["last"]),
        first_token=None if first_token is None else Latency(**first_token),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

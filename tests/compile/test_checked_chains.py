"""What `validate` finds along a chain of steps: columns that nothing provides, models, and what a step may not say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from synth_cli.run.prepare import problems_of

TOP = "model: simulator\ninput: {matrix: {a: [x], b: [[1]]}}\nsteps:\n"
"""The input has the columns `a` and `b`."""
OWN = "def rows(rows):\n    yield from rows\n"
HERE = "¶"
"""Stands in a spec where a problem is expected, and is not part of it."""


def found(folder: Path, text: str) -> list[str]:
    """The problems of a spec, each as line:column: message."""
    spec = folder / "job.yaml"
    spec.write_text(text.replace(HERE, ""))
    (folder / "own.py").write_text(OWN)
    problems = problems_of(spec, sets=(), profile=None, environ={"OPENAI_API_KEY": "k"})
    return [str(problem).removeprefix(f"{spec}:") for problem in problems]


def expected(text: str, messages: Sequence[str]) -> list[str]:
    """A message for each mark of the text, with its place."""
    places = []
    for number, line in enumerate(text.splitlines(), 1):
        while HERE in line:
            places.append(f"{number}:{line.index(HERE) + 1}")
            line = line.replace(HERE, "", 1)  # noqa: PLW2901
    return [f"{place}: {message}" for place, message in zip(places, messages, strict=True)]


def check(folder: Path, text: str, *messages: str) -> None:
    """The spec has a problem at each of its marks, and no other."""
    assert found(folder, text) == expected(text, messages)


def chain(folder: Path, steps: Sequence[str], *messages: str) -> None:
    """The same for a chain of these steps."""
    check(folder, TOP + "".join(f"- {{{step}}}\n" for step in steps), *messages)


PROVIDES = [
    # (a step, the columns behind it)
    ("name: s, prompt: hi", "a b response"),
    ("name: s, prompt: hi, carry: false", "response"),
    ("name: s, prompt: hi, carry: [b]", "b response"),
    ("name: s, prompt: hi, tools: [{name: f}]", "a b response tool_calls"),
    ("name: s, prompt: hi, response: {schema: {t: str, n: int}}", "a b n t"),
    ("name: s, prompt: hi, response: {schema: {l: [{t: str}]}}, each: response.l", "a b t"),
    ("name: s, prompt: hi, response: {schema: {l: [str]}}, each: response.l", "a b item"),
    ("name: s, prompt: hi, columns: {x: '{{ response }}', y: '{{ x }}'}", "a b x y"),
    ("name: s, prompt: hi, samples: 2, group_samples: true", "a b response"),
    ("name: s, turns: {user: {}, assistant: {}}", "a b messages"),
    ("name: s, turns: {user: {}, assistant: {}}, columns: {n: '{{ response | length }}'}", "a b n"),
    ("name: s, prompt: hi, refine: {prompt: '{{ response }}'}", "a b response"),
    ("name: s, type: map", "a b"),
    ("name: s, type: map, columns: {x: 1}, carry: [a]", "a x"),
    ("name: s, type: map, each: b, columns: {x: '{{ item }}'}", "a b x"),
    ("name: s, type: sample, columns: {x: {uuid: {}}}, carry: false", "x"),
    ("name: s, type: dedup", "a b"),
    ("name: s, type: dedup, by: a, method: minhash", "a b"),
    ("name: s, type: group, by: a", "a b"),
]


@pytest.mark.parametrize(("step", "columns"), PROVIDES)
def test_what_a_step_provides(tmp_path: Path, step: str, columns: str) -> None:
    """The next step may use every one of its columns, and no other."""
    names = columns.split()
    chain(tmp_path, [step, f"name: t, type: map, carry: [{', '.join(names)}]"])
    none_such = f"nothing provides 'none_such'; there are: {', '.join(names)}"
    chain(tmp_path, [step, f"name: t, type: map, carry: [{HERE}none_such]"], none_such)


@pytest.mark.parametrize(
    "step",
    [
        "name: s, type: python, function: 'own.py:rows'",
        "name: s, prompt: hi, parse: 'own.py:rows'",
        "name: s, type: map, each: b",
        "name: s, prompt: hi, response: {schema: {l: [any]}}, each: response.l",
    ],
)
def test_what_only_rows_can_tell(tmp_path: Path, step: str) -> None:
    """Behind such a step any name may be there; what a later step makes is known again."""
    later = ("name: t, prompt: '{{ any }}', carry: false", f"name: u, prompt: {HERE}'{{{{ any }}}}'")
    chain(tmp_path, [step, *later], "nothing provides 'any'; there are: response")


def test_names_are_followed_through_from(tmp_path: Path) -> None:
    """`from` names whose columns count; `from: input` those of the input."""
    steps = (
        "name: one, prompt: '{{ a }}', columns: {x: 1}, carry: false",
        "name: two, prompt: ¶'{{ x }} {{ a }}', columns: {y: 1}",
        "name: three, from: one, prompt: ¶'{{ x }} {{ y }}'",
        "name: four, from: input, prompt: ¶'{{ a }} {{ x }}'",
    )
    chain(
        tmp_path,
        steps,
        "nothing provides 'a'; there are: x",
        "nothing provides 'y'; there are: x",
        "nothing provides 'x'; there are: a, b",
    )


def test_joined_rows_have_what_all_their_sources_have(tmp_path: Path) -> None:
    """It is said which source lacks a name, also steps later; what is guarded, or made anew, is no problem."""
    steps = (
        "name: one, prompt: hi, columns: {x: 1, z: 1}",
        "name: two, from: input, prompt: hi, columns: {y: 1, z: 1}",
        "name: all, from: [input, one, two], prompt: ¶¶'{{ a }} {{ x }} {{ z }}'",
        "name: next, prompt: ¶\"{{ z }} {{ x | default('') }} {{ row.get('x') }}\", columns: {x: 1}",
        "name: last, prompt: ¶'{{ x }} {{ y }}'",
    )
    chain(
        tmp_path,
        steps,
        "the rows of 'input' and 'two' have no 'x'; make it there too, or write row.get('x') or x | default('…')",
        "the rows of 'input' have no 'z'; make it there too, or write row.get('z') or z | default('…')",
        "the rows of 'input' have no 'z'; make it there too, or write row.get('z') or z | default('…')",
        "the rows of 'input' and 'one' have no 'y'; make it there too, or write row.get('y') or y | default('…')",
    )


def test_columns_of_some_rows(tmp_path: Path) -> None:
    """They may be carried and compared: the other rows have null there. An answer may not overwrite them."""
    one = "name: one, prompt: hi, columns: {t: 1}"
    fine = (
        "name: two, from: [input, one], type: map, carry: [t]",
        "name: three, from: [input, one], type: dedup, by: [a, t]",
        "name: four, from: [input, one], type: group, by: t",
    )
    chain(tmp_path, [one, *fine])
    over = "name: two, from: [input, one], prompt: hi, ¶response: {schema: {t: str}}"
    hint = "rename it with columns:, or leave it behind with carry:"
    chain(tmp_path, [one, over], f"the answer's column 't' would overwrite the carried column 't'; {hint}")


def test_a_source_of_unknown_columns(tmp_path: Path) -> None:
    """What the other source lacks is a problem even so."""
    steps = (
        "name: own, type: python, function: 'own.py:rows'",
        "name: all, from: [own, input], prompt: ¶'{{ a }} {{ x }}'",
    )
    chain(tmp_path, steps, "nothing provides 'x'; there are: a, b")


FINE = [
    "type: map, each: a.b.c, keep_if: item > 1",
    "type: sample, columns: {x: '{{ a }}', y: {category: ['{{ x }}', '{{ b }}']}}",
    "prompt: hi, model: [simulator, simulator], samples: 1, fallback: [simulator]",
    "prompt: hi, response: {schema: {t: str}}, refine: {prompt: '{{ response.t }} {{ a }}', until: response.t == a}",
    "turns: {user: {system: '{{ a }}'}, assistant: {}, start: '{{ a }}', until: \"'bye' in response\"}",
    "turns: {user: {}, assistant: {}, max: 1}, each: response, columns: {who: '{{ item.role }}'}",
    "turns: {user: {}, assistant: {}}, keep_if: messages | length > 2",
]


@pytest.mark.parametrize("step", FINE)
def test_what_a_step_may_say(tmp_path: Path, step: str) -> None:
    """Nothing is found in what the language allows."""
    chain(tmp_path, [f"name: s, {step}"])


AB = "there are: a, b"
LATER = "use it in check, columns or keep_if"
WRONG = [
    ("type: map, columns: {x: ¶'{{ reply.model }}'}", "nothing provides 'reply'; this step asks no model"),
    ("type: map, columns: {x: ¶'{{ response }}'}", "nothing provides 'response'; this step asks no model"),
    ("type: map, columns: {x: ¶'{{ item }}'}", "'item' is there only with 'each'; write each: …"),
    ("type: map, each: ¶'3'", "'each' gives no list; write each: a column that is a list"),
    ("type: map, keep_if: ¶a ==", "not an expression: the expression is not finished"),
    (
        "type: map, columns: {x: ¶'{{ y }}', y: 1}",
        "nothing provides 'y'; it is made further down; a column sees the earlier ones",
    ),
    ("type: sample, columns: {¶x: {gausian: {}}}", "there is no sampler 'gausian'; did you mean 'gaussian'?"),
    ("type: sample, columns: {x: {uniform: {min: ¶'{{ c }}'}}}", f"nothing provides 'c'; {AB}"),
    ("type: sample, columns: {¶x: {uniform: {min: 3, max: 1}}}", "min (3) is greater than max (1)"),
    ("type: sample, columns: {x: 1}, carry: [¶c]", f"nothing provides 'c'; {AB}"),
    ("type: dedup, by: ¶c", f"nothing provides 'c'; {AB}"),
    ("type: group, by: [a, ¶c]", f"nothing provides 'c'; {AB}"),
    ("type: python, function: ¶'own.py:row'", "there is no function 'row' in own.py; did you mean 'rows'?"),
    ("type: python, function: ¶'package.module:rows'", "'package.module:rows' is not path.py:function"),
    ("type: python, function: ¶own.py", "'own.py' is not path.py:function"),
    ("prompt: hi, refine: {prompt: ¶'{{ respons }}'}", f"nothing provides 'respons'; {AB}"),
    ("prompt: hi, refine: {prompt: x, until: ¶reply.cost > 1}", f"'reply' is not there yet; {LATER}"),
    (
        "prompt: hi, response: {schema: {t: str}}, refine: {prompt: ¶'{{ response.u }}'}",
        "nothing provides 'response.u'; did you mean 'response.t'?",
    ),
    ("turns: {user: {system: ¶'{{ c }}'}, assistant: {}}", f"nothing provides 'c'; {AB}"),
    (
        "turns: {user: {}, assistant: {system: ¶'{{ response }}'}}",
        f"'response' is not there before the answer; {LATER}",
    ),
    ("turns: {user: {}, assistant: {}, start: ¶'{{ c }}'}", f"nothing provides 'c'; {AB}"),
    ("turns: {user: {}, assistant: {}, until: ¶respons}", f"nothing provides 'respons'; {AB}"),
    (
        "turns: {user: {}, assistant: {}, start: x, max: ¶1}",
        "'turns.max' is 1 and 'start' is the first message: nobody would be asked; it counts messages: write 2 or more",
    ),
    ("turns: {user: {}, assistant: {}}, ¶fallback: [simulator]", "a conversation has no 'fallback'; remove it"),
    (
        "turns: {user: {}, assistant: {model: simulator}}, ¶model: [simulator, simulator]",
        "a side of a conversation has one model, and this is a list; write turns.user.model",
    ),
]


@pytest.mark.parametrize(("step", "message"), WRONG)
def test_what_a_step_may_not_say(tmp_path: Path, step: str, message: str) -> None:
    """Each problem at the text that it is in."""
    chain(tmp_path, [f"name: s, {step}"], message)


def test_models_are_checked_wherever_they_stand(tmp_path: Path) -> None:
    """In pools, as fallbacks, as sides of a conversation, at the top; one that is inherited is told once."""
    text = """models: {good: simulator, other: {name: ¶no/such}, odd: ¶good}
model: ¶goood
steps:
- {name: a, prompt: hi}
- {name: b, prompt: hi, model: [good, ¶odder], fallback: [{name: ¶bad/one}]}
- {name: c, prompt: hi}
- {name: d, model: good, turns: {user: {model: good}, assistant: {model: ¶bad/two}}}
- {name: e, prompt: hi, model: {name: good, generation_params: {temperature: 1}}}
"""
    problems = found(tmp_path, text)
    assert [problem.partition(": ")[0] for problem in problems] == [
        problem.partition(": ")[0] for problem in expected(text, [""] * 6)
    ]
    assert [problem.partition(": ")[2].rpartition("; ") for problem in (problems[1], problems[2])] == [
        ("'good' is a name that 'models' gives, not a model", "; ", "write the model itself: provider/name"),
        (problems[2].partition(": ")[2].rpartition("; ")[0], "; ", "did you mean 'good', which 'models' names?"),
    ]


def test_parameters_fit_one_of_the_steps_engines(tmp_path: Path) -> None:
    """A model's own fit its own engine, those of the step fit any of its models'; inherited ones are left out."""
    text = """models:
  bulk: {name: openai/gpt-5-mini, engine: batch, backend_params: {batch_size: 5, stream: ¶true}}
model: simulator
backend_params: {stream: true, batch_size: 7, tensor_parallel_size: 2}
steps:
- {name: a, prompt: hi, model: bulk}
- {name: b, prompt: hi, model: [bulk, simulator], backend_params: {completion_window: 24h, max_concurrent_requests: 2}}
- name: c
  prompt: hi
  model: [simulator, {name: simulator, backend_params: {completion_window: ¶24h}}]
  backend_params: {batch_size: ¶3}
- {name: d, prompt: hi, fallback: [bulk], backend_params: {batch_size: 3, dtype: ¶auto}}
"""
    check(
        tmp_path,
        text,
        "'stream' belongs to the engine online; this step's is batch",
        "'completion_window' belongs to the engine batch; this step's is online",
        "'batch_size' belongs to the engines batch and vllm; this step's is online",
        "'dtype' belongs to the engine vllm; this step's are online and batch",
    )

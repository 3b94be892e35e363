"""Templates: sandboxed Jinja, compiled once, whose values keep their type.

templates = Templates(vars=spec.vars, seed=spec.seed)
prompt = templates.value("Write about {{ topic }}.")       # raises TemplateSyntaxError
prompt.render(scope(row))                                  # raises TemplateError, a row's trouble
"""

from synth_cli.template.errors import TemplateError, TemplateSyntaxError
from synth_cli.template.scope import AFTER, Scope, scope
from synth_cli.template.templates import Template, Templates
from synth_cli.template.text import text

__all__ = [
    "AFTER",
    "Scope",
    "Template",
    "TemplateError",
    "TemplateSyntaxError",
    "Templates",
    "scope",
    "text",
]

"""The formats that `show` knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.plan.file import Plan
from reconciler.views import dot, html, json, markdown, mermaid, sarif, sql, text

FORMATS: dict[str, Callable[[Plan], Iterable[str]]] = {
    "text": lambda plan: (text.render(plan),),
    "markdown": lambda plan: (markdown.render(plan),),
    "json": json.render,
    "sql": sql.render,
    "html": html.render,
    "sarif": lambda plan: (sarif.render(sarif.of_plan(plan, {})),),
    "mermaid": lambda plan: (mermaid.render(plan),),
    "dot": lambda plan: (dot.render(plan),),
}

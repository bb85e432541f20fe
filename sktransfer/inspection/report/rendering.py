"""Rendering of sections as one HTML file.

All of the markup is in the templates. jinja2 escapes every string that it puts there, and no
template may switch that off (a test sees to it), so that names of classes and files cannot be
taken for markup.
"""

from typing import Any

import jinja2

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
"""The page fetches nothing and runs no script."""


def render(**content: Any) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sktransfer.inspection.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(policy=_POLICY, **content)
    # File names need not be UTF-8, but the page is.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")

"""Tables out of ``benchmarks/results/*.json``, made when the pages are built.

A page says which figures it wants, and cannot hold figures of another run:

    ```{benchmark} throughput
    :rows: contestant
    lite0 | efficientnet_lite0 > network only > images_per_second > * | .1f
    resnet50 | resnet50 > network only > images_per_second > * | .1f
    ```

Each line is a column: its heading, the path of its values in the file, how they are written, and
perhaps a factor. The star stands for the rows; those of a list are named by ``row-names``, one of
their own figures. Of a list of rounds the median is shown. A path that leads nowhere is an error,
so that a page does not outlive the figures it is about.

A sentence takes single figures, such as {result}`import_time > median_seconds > sktransfer ; .2f`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from figures import (
    MAIN,
    NOTHING,
    columns_of,
    figure_of,
    machine_of,
    noise_of,
    rows_of,
    written,
)
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def marked_up(text: str) -> list[nodes.Node]:
    """Text with what stands between backquotes as code."""
    parts = text.split("`")
    return [nodes.literal("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts) if p]


def table(head: list[str], body: list[list[str]]) -> nodes.Node:
    """A table whose first column is text, and the others numbers."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]

    def row(cells: list[str]) -> nodes.row:
        entries = []
        for number, cell in enumerate(cells):
            classes = ["text-end"] if number else []
            entries.append(
                nodes.entry("", nodes.paragraph("", "", *marked_up(cell)), classes=classes)
            )
        return nodes.row("", *entries)

    group += nodes.thead("", row(head))
    group += nodes.tbody("", *[row(cells) for cells in body])
    made = nodes.table("", group, classes=["table"])
    return nodes.container("", made, classes=["pst-scrollable-table-container"])


class Benchmark(SphinxDirective):
    """A table of figures from one file of results."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("rows", "row-names", "only"), directives.unchanged)

    def run(self) -> list[nodes.Node]:
        file = RESULTS / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(file))
        names = self.options.get("row-names", "")
        try:
            result = json.loads(file.read_text())
            columns = [
                (head, dict(rows_of(result, path, names)), form, factor)
                for head, path, form, factor in columns_of(list(self.content))
            ]
            body = list(self.body(columns))
        except (OSError, KeyError, ValueError, IndexError) as problem:
            raise self.error(f"{file.name}: {type(problem).__name__}: {problem}") from problem
        heads = [self.options.get("rows", ""), *[head for head, *_ in columns]]
        return [table(heads, body), self.source(file, result)]

    def body(self, columns: list[tuple[str, dict[str, Any], str, float]]) -> Iterator[list[str]]:
        """Cells row by row, of the rows asked for or of all."""
        names = list(dict.fromkeys(name for _, values, *_ in columns for name in values))
        wanted = [name.strip() for name in self.options.get("only", "").split(";") if name.strip()]
        if absent := set(wanted) - set(names):
            raise ValueError(f"there are no rows {sorted(absent)}, only {names}")
        if not names or any(not values for _, values, *_ in columns):
            raise ValueError("a column has no figures")
        for name in wanted or names:
            cells = [
                written(values[name], form, factor) if name in values else NOTHING
                for _, values, form, factor in columns
            ]
            yield [name, *cells]

    def source(self, file: Path, result: Mapping[str, Any]) -> nodes.Node:
        """The line below a table: where its figures are from."""
        target = f"/../benchmarks/results/{file.name}"
        link = addnodes.download_reference("", file.name, refdoc=self.env.docname, reftarget=target)
        text = nodes.Text(f": {machine_of(result, MAIN)}.{noise_of(result)}")
        return nodes.paragraph("", "", link, text, classes=["benchmark-source"])


class Result(SphinxRole):
    """A figure of a file of results, within a sentence."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        file = self.text.partition(">")[0].strip()
        self.env.note_dependency(str(RESULTS / f"{file}.json"))
        try:
            return [nodes.Text(figure_of(RESULTS, self.text))], []
        except (OSError, KeyError, ValueError, IndexError, TypeError) as problem:
            text = f"{self.text}: {type(problem).__name__}: {problem}"
            message = self.inliner.reporter.error(text, line=self.lineno)
            return [], [message]


class Machines(SphinxDirective):
    """All files of results, and what each was made on."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        files = sorted(RESULTS.glob("*.json"))
        results = {file.stem: json.loads(file.read_text()) for file in files}
        body = [
            [name, machine_of(result)] for name, result in results.items() if "machine" in result
        ]
        made = table(["results", "machine and versions"], body)
        for entry in made.findall(nodes.entry):
            entry["classes"] = []
        return [made]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("benchmark", Benchmark)
    app.add_directive("benchmark-machines", Machines)
    app.add_role("result", Result())
    return {"parallel_read_safe": True, "parallel_write_safe": True}

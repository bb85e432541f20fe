"""Links between files of the repository, turned into links between pages.

The guides are read as files, too, so their links are relative paths. Two things differ in the
pages: a file outside ``docs/`` may stand as a page inside it (``repository_pages`` in conf.py),
and a page that includes such a file is elsewhere than the file.
"""

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def rewritten(text: str, folder: Path, page: Path, pages: dict[Path, Path]) -> str:
    """A text's links as seen from a page, for files that are pages elsewhere.

    Parameters
    ----------
    text : str
        Markdown.
    folder : Path
        Of the file that the text is from, to which its links are relative.
    page : Path
        The page's own file.
    pages : dict of Path to Path
        Files of the repository that stand as pages, and the files of these pages.
    """

    def replace(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        meant = Path(os.path.normpath(folder / target))
        if meant not in pages and folder == page.parent:
            return match.group()
        found = pages.get(meant, meant)
        return f"{before}{Path(os.path.relpath(found, page.parent)).as_posix()}{after}"

    return LINK.sub(replace, text)


def _pages(app: Sphinx) -> dict[Path, Path]:
    docs = Path(app.srcdir)
    named: dict[str, str] = app.config.repository_pages
    return {docs.parent / file: docs / f"{page}.md" for file, page in named.items()}


def _source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        content[0] = rewritten(content[0], page.parent, page, _pages(app))


def _include_read(app: Sphinx, included: Path, docname: str, content: list[str]) -> None:
    if included.suffix == ".md":
        folder = Path(os.path.normpath(Path(app.srcdir) / included)).parent
        page = Path(app.env.doc2path(docname))
        content[0] = rewritten(content[0], folder, page, _pages(app))


def setup(app: Sphinx) -> dict[str, Any]:
    """Listen to what is read."""
    app.add_config_value("repository_pages", {}, "env", dict)
    app.connect("source-read", _source_read)
    app.connect("include-read", _include_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

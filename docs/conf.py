"""How the documentation is built.

    python -m sphinx -W --keep-going -b html docs docs/_build/html

Nothing is fetched: no fonts, no scripts, no inventories of other projects. With
SKTRANSFER_DOCS_INTERSPHINX=1 names of other libraries become links, which needs a network.
"""

import os
import re
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext")]

from docutils import nodes  # noqa: E402

import sktransfer  # noqa: E402

project = "sktransfer"
author = "the sktransfer developers"
copyright = author
version = release = sktransfer.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "benchmark_tables",
    "repository_links",
]

# --- sources --------------------------------------------------------------------------------

exclude_patterns = ["_build", "gallery", "Thumbs.db", ".DS_Store"]
templates_path = ["_templates"]
myst_heading_anchors = 4
copybutton_exclude = ".linenos, .gp, .go"

# Files of the repository that stand as pages.
repository_pages = {
    "README.md": "readme",
    "benchmarks/README.md": "benchmarks",
    "CHANGELOG.md": "changelog",
}

if os.environ.get("SKTRANSFER_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
    }

# --- reference ------------------------------------------------------------------------------

default_role = "py:obj"  # `names` in docstrings are links where there is something to link to
toc_object_entries_show_parents = "hide"
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's Parameters say it in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template lists methods
numpydoc_class_members_toctree = False


def skip_generated(app, what, name, obj, skip, options):
    """Leave out the metadata-routing methods that scikit-learn makes for every estimator."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


TYPE = re.compile(r"^(\s*[\w, *]+ : )(.+)$")


def before_numpydoc(app, what, name, obj, options, lines):
    """Mend what numpydoc passes on as it is.

    ``shape (n_features_in_, 3)`` in a type would be read as a reference; and a citation in a
    summary has no target in the tables that quote it.
    """
    summary = True
    for number, line in enumerate(lines):
        summary = summary and bool(line.strip())
        if summary:
            lines[number] = re.sub(r"\s*\[\d+\]_", "", line)
        elif found := TYPE.match(line):
            lines[number] = found[1] + re.sub(r"(?<=\w)_(?!\w|`)", r"\_", found[2])


# --- gallery --------------------------------------------------------------------------------

# Examples that warn should say so in the code, not in the page.
warnings.filterwarnings("ignore", message=".*non-interactive.*")

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("sktransfer",),
    "reset_modules": ("matplotlib",),
    "abort_on_example_error": True,
    "min_reported_time": 1,
    "show_memory": False,
    "write_computation_times": False,  # its page would fetch scripts
    "remove_config_comments": True,
    "download_all_examples": False,
    "thumbnail_size": (400, 280),
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
}

# --- pages ----------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sktransfer"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "sktransfer"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
html_sidebars = {"index": [], "performance": [], "security": [], "architecture": []}


def tidy(app, doctree):
    """Take away the blank line that ends an example for doctest's sake."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.rawsource.rstrip()
        block.children = [nodes.Text(block.astext().rstrip())]


def setup(app):
    app.connect("doctree-read", tidy)
    app.connect("autodoc-skip-member", skip_generated)
    app.connect("autodoc-process-docstring", before_numpydoc, priority=400)

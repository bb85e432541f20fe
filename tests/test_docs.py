"""The documentation: complete, linked, and about nothing but the software. Sphinx does the rest."""

import importlib
import json
import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

MODULES = [
    "sktransfer",
    *(f"sktransfer.{room}" for room in ("adaptation", "metrics", "model_selection", "inspection")),
    *(f"sktransfer.{room}" for room in ("datasets", "export", "exceptions", "persistence")),
]

MADE = ("_build", "_templates", "auto_gallery", "generated")
PAGES = sorted(
    page
    for kind in ("*.md", "*.rst")
    for page in DOCS.rglob(kind)
    if not set(MADE) & set(page.relative_to(DOCS).parts) and page.name != "sg_execution_times.rst"
)
GUIDES = [page for page in PAGES if "gallery" not in page.parts]
MARKDOWN = [page for page in PAGES if page.suffix == ".md"]
READ = [*MARKDOWN, *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name(path):
    return str(path.relative_to(ROOT))


def public_names(module):
    """What a module offers: `__all__`, or what is defined in it without an underscore."""
    found = importlib.import_module(module)
    named = getattr(found, "__all__", None)
    if named is None:
        defined = vars(found).items()
        named = [n for n, v in defined if n[0] != "_" and getattr(v, "__module__", "") == module]
    return {f"{module}.{n}" for n in named}


def listed_names():
    """Names in the reference: entries of autosummary under their current module."""
    for page in (DOCS / "api").glob("*.rst"):
        module = ""
        for line in page.read_text().splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = found[1]
            elif module and (found := re.match(r"   (\w+)$", line)):
                yield f"{module}.{found[1]}"


def toctree_entries(page):
    """Pages that a page's toctrees lead to."""
    text = page.read_text()
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL)
    blocks += re.findall(r"\.\. toctree::\n((?:\n|   .*\n)+)", text)
    for line in "\n".join(blocks).splitlines():
        entry = line.strip()
        if entry and not entry.startswith(":"):
            entry = re.sub(r".*<(.+)>", r"\1", entry)
            yield (page.parent / entry).resolve()


def anchors(page):
    """Anchors that Markdown makes of headings."""
    text = page.read_text()
    if included := re.match(r"```\{include\} (\S+)\n```\n$", text):
        return anchors((page.parent / included[1]).resolve())
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


@pytest.fixture
def figures(monkeypatch):
    """What the tables of results are made with."""
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module("figures")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module):
    names = public_names(module)
    assert names
    assert names <= set(listed_names())


def test_the_reference_lists_nothing_twice_and_nothing_that_is_not_there():
    listed = list(listed_names())
    assert len(listed) == len(set(listed))
    for full in listed:
        module, _, attribute = full.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), full


def test_every_page_is_in_one_toctree_and_every_entry_is_a_page():
    pages = {page.with_suffix("") for page in GUIDES} - {DOCS / "index"}
    entries = [entry for page in GUIDES for entry in toctree_entries(page)]
    made = {DOCS / "auto_gallery" / "index"}
    assert sorted(entries) == sorted(pages | made)


@pytest.mark.parametrize("page", READ, ids=name)
def test_links_lead_to_files_and_to_headings_in_them(page):
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", [*PAGES, *READ[len(MARKDOWN) :]], ids=name)
def test_pages_name_no_place_on_the_machine_they_were_written_on(page):
    assert not re.search(r"/(work|home|root)/\w|site-packages", page.read_text())


def test_the_citation_is_of_the_release_that_the_changelog_names_last():
    release = re.search(r"^## (\d\S*) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == release[1]
    assert re.search(r'^date-released: "(.+)"$', citation, re.MULTILINE)[1] == release[2]


def test_the_description_on_pypi_is_readme_whose_links_lead_to_the_repository():
    here = {link for link in LINK.findall((ROOT / "README.md").read_text()) if "//" not in link}
    there = set(LINK.findall(metadata("sktransfer").json["description"]))
    assert here
    assert there >= {f"https://github.com/sktransfer/sktransfer/blob/main/{link}" for link in here}
    assert all("//" in link for link in there)


def test_figures_of_the_performance_page_are_made_from_the_results(figures):
    shown = 0
    for page in MARKDOWN:
        for block in re.findall(
            r"^```\{benchmark\} (\w+\n.*?)^```$", page.read_text(), re.M | re.S
        ):
            name, *lines = block.splitlines()
            result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
            columns = list(figures.columns_of([line for line in lines if line[0] != ":"]))
            assert columns
            for _, path, form, factor in columns:
                values = dict(figures.rows_of(result, path))
                assert values, (page.name, name, path)
                for value in values.values():
                    assert figures.written(value, form, factor)
                    shown += 1
    assert shown > 100


def test_figures_in_sentences_are_made_from_the_results(figures):
    texts = [
        text for page in MARKDOWN for text in re.findall(r"{result}`([^`]+)`", page.read_text())
    ]
    assert len(texts) > 20
    for text in texts:
        assert re.search(r"\d", figures.figure_of(ROOT / "benchmarks" / "results", text)), text


TYPED = re.compile(r"(?<![\w`.])\.\d\d+(?![\w`])")


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_no_page_has_accuracies_that_no_result_holds(page):
    assert TYPED.findall(FENCE.sub("", page.read_text())) == []


def test_a_table_shows_the_median_of_rounds_and_refuses_a_path_without_rows(figures):
    result = {"seconds": {"ours": [3.0, 1.0, 2.0], "theirs": []}}
    rows = dict(figures.rows_of(result, "seconds > *"))
    assert figures.written(rows["ours"], ".1f") == "2.0"
    assert figures.written(rows["theirs"], ".1f") == figures.NOTHING
    assert figures.written(1_500_000, ",.1f", 1e-6) == "1.5"
    with pytest.raises(ValueError, match=r"has no \* for the rows"):
        list(figures.rows_of(result, "seconds > ours"))
    with pytest.raises(KeyError):
        list(figures.rows_of(result, "minutes > *"))


def test_a_table_says_when_the_machine_had_other_work(figures):
    assert figures.noise_of({"runs": [{"others": {"median": 0.05, "most": 0.9}}]}) == ""
    noise = figures.noise_of({"runs": [{"others": {"median": 0.5, "most": 0.9}}, {"others": 0.1}]})
    assert "50%" in noise

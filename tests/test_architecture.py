"""Rules of the code base: cheap import, one-way imports, documented names."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sktransfer
import sktransfer.adaptation
import sktransfer.datasets
import sktransfer.exceptions
import sktransfer.export
import sktransfer.inspection
import sktransfer.metrics
import sktransfer.model_selection

ROOT = Path(sktransfer.__file__).parent
TESTS = Path(__file__).parent

# Tests of the repository as a whole, and of what several modules of a room have in common.
SPANNING = [
    "test_architecture.py",
    "test_docs.py",
    "adaptation/test_contract.py",
    "adaptation/test_feature_maps_sklearn.py",
    "finetuning/test_tune.py",
]

# Each room may import from itself and from the rooms before it.
ORDER = [
    "exceptions",
    "_validation",
    "_columns",
    "_pairs",
    "_composites",
    "_files",
    "metrics",
    "adaptation",
    "store",
    "persistence",
    "networks",
    "finetuning",
    "images",
    "sequences",
    "texts",
    "backbones",
    "features",
    "model_selection",
    "datasets",
    "inspection",
    "export",
    "cli",
]


def test_importing_the_package_loads_neither_torch_nor_scikit_learn():
    code = "import sys; old = set(sys.modules); import sktransfer; print(*set(sys.modules) - old)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "torchvision", "timm", "sklearn", "numpy", "PIL"} & set(loaded)
    assert sum(name.startswith("sktransfer") for name in loaded) == 1
    assert len(loaded) < 60  # the standard library's typing and what it needs


@pytest.mark.slow
def test_transfer_between_domains_needs_no_torch():
    code = "import sys, sktransfer.adaptation, sktransfer.metrics, sktransfer.model_selection"
    code += "; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "False\n"


def imported_names(path):
    """Modules and names of the package that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "sktransfer" and len(parts) > 1 and parts[1] in ORDER:
                yield parts[1:]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    allowed = ORDER[: ORDER.index(room) + 1]
    assert {imported for imported, *_ in imported_names(path)} <= set(allowed)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_room_imports_the_private_names_of_another(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    private = [
        f"{imported}.{'.'.join(names)}"
        for imported, *names in imported_names(path)
        if imported != room and any(name.startswith("_") for name in names)
    ]
    assert private == []


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_weights_only_is_never_switched_off(path):
    source = path.read_text()
    assert "weights_only=False" not in source
    assert "trust_remote_code" not in source
    assert all(
        "weights_only=True" in call
        for call in re.findall(r"(?<!safetensors\.)torch\.load\([^)]*\)", source)
    )


def test_every_folder_of_modules_has_a_folder_of_tests():
    folders = {path.parent.relative_to(ROOT) for path in ROOT.rglob("*.py")}
    assert [str(each) for each in folders if not [*(TESTS / each).glob("test_*.py")]] == []


def test_every_file_of_tests_is_named_after_a_module_in_the_folder_of_the_same_name():
    strays = []
    for path in TESTS.rglob("test_*.py"):
        place = path.relative_to(TESTS)
        modules = [each.stem.removeprefix("_") for each in (ROOT / place.parent).glob("*.py")]
        name = path.stem.removeprefix("test_")
        if not any(name == module or name.startswith(f"{module}_") for module in modules):
            strays.append(place.as_posix())
    assert sorted(strays) == sorted(SPANNING)


PUBLIC = {name: getattr(sktransfer, name) for name in sktransfer.__all__}
for room in (
    sktransfer.datasets,
    sktransfer.adaptation,
    sktransfer.metrics,
    sktransfer.model_selection,
    sktransfer.inspection,
    sktransfer.export,
):
    PUBLIC |= {name: getattr(room, name) for name in room.__all__}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_document_parameters_results_and_show_an_example(name):
    item = PUBLIC[name]
    text = inspect.getdoc(item)
    assert text
    assert ">>>" in text
    parameters = [
        p for p in inspect.signature(item).parameters if p not in ("args", "kwargs", "self")
    ]
    for parameter in parameters:
        assert re.search(rf"^(\w+, )*{parameter}(, \w+)* :", text, re.MULTILINE), parameter
    if inspect.isclass(item):
        for method_name, method in inspect.getmembers(item, inspect.isfunction):
            if not method_name.startswith("_") and method.__module__.startswith("sktransfer"):
                assert inspect.getdoc(method), method_name


def test_public_names_are_listed_and_a_wrong_one_is_an_attribute_error():
    assert set(sktransfer.__all__) <= set(dir(sktransfer))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sktransfer.nothing

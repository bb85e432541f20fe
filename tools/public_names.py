"""Print the public names of the package: what is exported, its parameters and its public methods.

The lists of two versions show what a change adds, renames or loses:
``diff <(python tools/public_names.py) <(cd ../other && python tools/public_names.py)``.
"""

import importlib
import inspect
import pkgutil

import sktransfer


def names() -> list[str]:
    """One line per name, such as ``sktransfer.metrics.mmd(gamma)``."""
    found = set()
    modules = ["sktransfer"] + [
        f"sktransfer.{module.name}"
        for module in pkgutil.iter_modules(sktransfer.__path__)
        if module.name != "__main__"
    ]
    for module_name in modules:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            found.add(f"{module_name}.{name}")
            if callable(item):
                found |= {f"{module_name}.{name}({p})" for p in inspect.signature(item).parameters}
            if inspect.isclass(item):
                found |= {
                    f"{module_name}.{name}.{attribute}"
                    for attribute in dir(item)
                    if not attribute.startswith("_")
                }
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(names()))

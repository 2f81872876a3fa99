"""The functions of all solution files in one namespace."""

import importlib.util
from functools import cache
from pathlib import Path
from types import SimpleNamespace

FOLDER = Path(__file__).parents[1] / "chapters" / "solutions"


@cache
def load() -> SimpleNamespace:
    functions = {}
    for path in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"solutions_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        defined = {n: f for n, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__}
        assert not functions.keys() & defined.keys(), f"{path.name} uses a name of another chapter"
        functions |= defined
    return SimpleNamespace(**functions)

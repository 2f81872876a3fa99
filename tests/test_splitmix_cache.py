"""numba's cache on disk is a convenience: if it is damaged, stale or out of room, functions are compiled anew."""

import json
import os
import subprocess
import sys

import pytest

# Damaged code can end the process, so all of it runs in one of its own.
SCRIPT = """
import importlib, json, random, resource, shutil, sys
from pathlib import Path
import numba
from emc2_lite.kernels import compiled

folder = Path(sys.argv[1])
numba.config.CACHE_DIR = str(folder / "cache")
source, found, chance = folder / "summing.py", {}, random.Random(0)
sys.path.insert(0, str(folder))
sys.dont_write_bytecode = True


def written(factor):
    lines = "def total(n):", "    s = 0.0", "    for i in range(n):", f"        s += i * {factor}", "    return s", ""
    source.write_text("\\n".join(lines))
    sys.modules.pop("summing", None)
    importlib.invalidate_caches()
    return importlib.import_module("summing").total


def outcome(function):
    made = compiled(function)
    result = made(10)
    return [result, sum(made.stats.cache_hits.values())]


def files():
    return sorted((folder / "cache").rglob("*.nb[ic]"))


def after(name, damage):
    for path, content in good.items():
        path.write_bytes(content)
    damage()
    found[name] = [outcome(half), outcome(half)]


def flipped(content):
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


half = written(0.5)
found["whole"] = [outcome(half), outcome(half)]
good = {path: path.read_bytes() for path in files()}
index, code = sorted(good, key=lambda path: path.suffix, reverse=True)
assert (index.suffix, code.suffix) == (".nbi", ".nbc")
for path in (index, code):
    kind = path.suffix[1:]
    after(f"{kind} empty", lambda: path.write_bytes(b""))
    after(f"{kind} cut short", lambda: path.write_bytes(good[path][: len(good[path]) // 2]))
    after(f"{kind} random", lambda: path.write_bytes(chance.randbytes(len(good[path]))))
    after(f"{kind} text", lambda: path.write_text("no cache"))
for trial in range(30):
    after(f"bit {trial}", lambda: code.write_bytes(flipped(good[code])))

double = written(2.25)
outcome(double)
fresh = {path: path.read_bytes() for path in files()}
code.write_bytes(good[code])  # as after a process that was killed between the two files
found["stale"] = [outcome(double), outcome(double)]

for path in files():
    path.unlink()
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
found["full"] = [outcome(double)]
code.parent.mkdir(exist_ok=True)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
found["full"].append(outcome(double))

made = compiled(half)
shutil.rmtree(folder / "cache")
(folder / "cache").write_text("in the way")
found["in the way"] = made(10)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numba")
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


COMPILED, CACHED = 0, 1


def test_a_function_is_compiled_once(found):
    assert found["whole"] == [[22.5, COMPILED], [22.5, CACHED]]


@pytest.mark.parametrize("damage", ["empty", "cut short", "random", "text"])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_file_is_compiled_anew_and_replaced(found, kind, damage):
    assert found[f"{kind} {damage}"] == [[22.5, COMPILED], [22.5, CACHED]]


def test_code_with_a_flipped_bit_is_never_run(found):
    flips = [outcome for name, outcome in found.items() if name.startswith("bit")]
    assert len(flips) == 30
    assert all((first[0], again) == (22.5, [22.5, CACHED]) for first, again in flips)


def test_code_of_another_source_is_never_run(found):
    assert found["stale"] == [[101.25, COMPILED], [101.25, CACHED]]


def test_a_full_disk_costs_the_cache_alone(found):
    assert found["full"] == [[101.25, COMPILED], [101.25, COMPILED]]


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(found):
    assert found["in the way"] == 22.5


def test_the_library_works_on_with_truncated_caches(tmp_path):
    script = "import torch; from emc2_lite.sampling import metropolis_hastings as sample\n"
    script += "print(sample(torch.zeros(2, 3), torch.zeros(2), uniforms=torch.full((2, 3), 0.5)).state.tolist())"
    said = []
    for _ in range(2):
        for path in tmp_path.rglob("*.nb[ic]"):
            path.write_bytes(b"")
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said == ["[[0, 1, 2], [0, 1, 2]]\n"] * 2

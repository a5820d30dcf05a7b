"""The model in spec/ is of this source, it closes, and its broken variants do not."""
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmgen"
pytestmark = [pytest.mark.once, pytest.mark.unsanitized("reads the source, and runs the model")]


def load(path):
    spec = importlib.util.spec_from_file_location(f"spec_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run = load(ROOT / "spec" / "run.py")
QUICK = ("ONE_SHORT_ON_DEMAND", "NO_IDLE_SCAN", "LAST_CPU_UNLOCKED")
needs_spin = pytest.mark.skipif(run.missing() is not None, reason=str(run.missing()))


@pytest.fixture
def package(tmp_path):
    for file in ("_core.pyx", "_core.pxd", "_lifetime.pyx"):
        shutil.copy(PACKAGE / file, tmp_path)
    return tmp_path


def test_the_model_is_of_this_source():
    stale = run.stale_stamps(PACKAGE)
    assert not stale, f"{', '.join(stale)} changed since spec/mmgen.pml was written: " \
        "read the model again, change it where it must, search it, then python spec/run.py --stamp"


def test_every_function_that_takes_part_is_modelled():
    modelled = {name for file, name, _hash in run.STAMP.findall(run.MODEL.read_text()) if file.startswith("_core.")}
    source = (PACKAGE / "_core.pyx").read_text() + (PACKAGE / "_core.pxd").read_text()
    defined = set(re.findall(r"^cdef [^(\n]*\b(\w+)\([^)]*\)[^:\n]*:$", source, re.M))
    assert modelled <= defined
    # No steps of their own; traces; a look from outside.
    assert defined - modelled == {"mm_cpu_of", "wrong_mode", "note", "mm_gen_owes"}


@pytest.mark.parametrize(("file", "old", "new", "stale"), [
    ("_core.pyx", "target = gen + 3 ", "target = gen + 2 ", ["_core.pyx:mm_gen_begin"]),
    ("_core.pyx", "            release(g)\n            return opened", "            return opened", ["_core.pyx:credit_idle"]),
    ("_core.pyx", "        sched_yield()\n\n\n# True: it", "        pass\n\n\n# True: it", ["_core.pyx:hold"]),
    ("_core.pyx", "    store_u64(&g.generation, gen + 1, memory_order_release)\n", "", ["_core.pyx:open_next"]),
    ("_core.pxd", ".nr_mm_switches\n    store_u64(nr, load_u64(nr, memory_order_relaxed) + 1",
     ".nr_mm_switches\n    store_u64(nr, load_u64(nr, memory_order_relaxed) + 2", ["_core.pxd:mm_switch"]),
    ("_core.pyx", "# counted in this generation already", "# counted already", []),
    ("_core.pyx", "    return True\n\n\n# ----", "    return True\n\n\n\n# ----", []),
], ids=["a target", "a release", "the end of a body", "a line less", "the pxd", "a comment", "a blank line"])
def test_a_change_of_the_source_shows(package, file, old, new, stale):
    text = (package / file).read_text()
    assert text.count(old) == 1
    (package / file).write_text(text.replace(old, new))
    assert run.stale_stamps(package) == stale
    model = package / "mmgen.pml"
    shutil.copy(run.MODEL, model)
    run.restamp(package, model)
    assert run.stale_stamps(package, model) == []


def test_a_function_that_is_gone_shows(package):
    path = package / "_core.pyx"
    path.write_text(path.read_text().replace("any_idle(", "some_idle("))
    with pytest.raises(LookupError, match="any_idle"):
        run.stale_stamps(package)


def test_what_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert run.main([]) == 2
    assert "spin is not installed" in capsys.readouterr().err


@needs_spin
@pytest.mark.parametrize("config", run.SHORT, ids=lambda config: config.name)
def test_it_closes(config):
    result = run.search(config)
    assert result.closed, result


@needs_spin
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in run.BROKEN
])
def test_a_broken_variant_is_refuted(name):
    result = run.search(run.BROKEN[name])
    assert result.error, result


@needs_spin
def test_exit_status(monkeypatch, capsys):
    assert run.main(["--broken", "NO_IDLE_SCAN"]) == 0
    assert "invalid end state" in capsys.readouterr().out
    sound = run.config(1, 1)
    monkeypatch.setitem(run.BROKEN, "NO_IDLE_SCAN", sound)
    assert run.main(["--broken", "NO_IDLE_SCAN"]) == 1
    monkeypatch.setattr(run, "SHORT", [run.BROKEN["ONE_SHORT_ON_DEMAND"]])
    assert run.main([]) == 1


@needs_spin
def test_a_search_cut_short_has_not_closed():
    result = run.search(run.Config(("NCPUS=1", "NWAITERS=1"), depth=100))
    assert not result.error
    assert not result.closed

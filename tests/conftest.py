import ctypes
import gc
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

NEED = {
    "hypothesis": ["test_entrances.py", "test_fuzz_batch.py", "test_fuzz_calls.py", "test_fuzz_check.py", "test_fuzz_cli.py",
                   "test_fuzz_lab.py", "test_fuzz_mmtrace.py", "test_fuzz_snapshot.py", "test_interface.py", "test_lab_oracle.py",
                   "test_lab_sweep.py", "test_lab_timeline.py", "test_latency.py", "test_mmtrace.py", "test_protocol.py", "test_simpy.py",
                   "test_replay.py", "test_replay_machine.py", "test_replay_steps.py", "test_replay_waits.py", "test_trace.py",
                   "test_traces_hostile.py", "test_traces_lines.py", "test_traces_ticks.py"],
    "matplotlib": ["test_lab_pictures.py"],
    "numpy": ["test_fuzz_lab.py", "test_lab_command.py", "test_lab_compare.py", "test_lab_detector.py", "test_lab_oracle.py",
              "test_lab_pictures.py", "test_lab_policies.py", "test_lab_real.py", "test_lab_simulate.py", "test_lab_sweep.py",
              "test_lab_sweep_command.py", "test_lab_sweep_workers.py", "test_lab_timeline.py", "test_lab_validate.py", "test_record.py",
              "test_record_rights.py", "test_record_ringbuffer.py", "test_record_undo.py", "test_replay.py", "test_replay_machine.py",
              "test_replay_steps.py", "test_replay_waits.py", "test_traces_command.py", "test_traces_hostile.py", "test_traces_lines.py",
              "test_traces_machines.py", "test_traces_ticks.py"],
    "simpy": ["test_simpy.py"],
}
missing = [package for package in NEED if not find_spec(package)]
collect_ignore = [test for package in missing for test in NEED[package]]
# What mmgen was built with, and where the processes of this run write their reports: set by tests/sanitize.
SANITIZER = os.environ.get("MMGEN_SANITIZE", "")
LOGS = os.environ.get("MMGEN_SANITIZER_LOGS")
# For the `pytestmark` of tests with one thread that runs what is compiled: the thread sanitizer has nothing to see there.
ALONE = [pytest.mark.unsanitized("one thread alone: there is nothing to see")] if SANITIZER == "thread" else []
if SANITIZER:                           # what tests compile is instrumented as mmgen is (setup.py): CFLAGS is the linker's, too
    os.environ["CFLAGS"] = f"-fsanitize={SANITIZER} -static-libubsan -Wl,--exclude-libs=ALL"


# A shell has what it starts in the background ignore Ctrl-C, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:           # so has nohup of what hangs up
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header():
    return [f"left out, since {package} is not installed: {', '.join(NEED[package])}" for package in missing]


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run what takes minutes, too")


def pytest_configure(config):
    if config.getoption("--long") and "hypothesis" not in missing:
        from hypothesis import settings  # noqa: PLC0415 - it may not be installed
        settings.register_profile("long", max_examples=20 * settings.default.max_examples)
        settings.load_profile("long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: --long runs it"))
    if SANITIZER:
        for item in items:
            if mark := item.get_closest_marker("unsanitized"):
                item.add_marker(pytest.mark.skip(reason=f"not under a sanitizer: {mark.args[0]}"))


shown = {}                              # by log: what it had


def news():
    """What the sanitizers have reported since the last call."""
    found = []
    for log in sorted(Path(LOGS).iterdir()):
        text = log.read_text(errors="replace")
        found.append(text.removeprefix(shown.get(log, "")))        # all of it, where another module's runtime has begun it anew
        shown[log] = text
    return "".join(found)


def leaks():
    """What mmgen has allocated and nothing refers to any more.

    Asked for while Python runs, which refers to all that it has. Only, LeakSanitizer does not look into the memory where Python keeps
    its frames' locals: it has more to say, of Python's own objects.
    """
    gc.collect()
    ctypes.CDLL(None).__lsan_do_recoverable_leak_check()
    return "\n\n".join(leak for leak in news().split("\n\n") if leak.startswith("Direct leak") and "mmgen/_" in leak)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    yield
    if LOGS:
        reports = news()
        if "address" in SANITIZER and (nextitem is None or nextitem.path != item.path):     # it takes 0.1 s
            reports += leaks()
        if reports:
            pytest.fail(reports, pytrace=False)


@pytest.fixture
def python(tmp_path):
    """Run a script in an interpreter of its own, outside the checkout; its result. It must end within `timeout` seconds."""

    def run(script, *args, timeout=60, **options):
        options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": timeout, "check": False} | options
        return subprocess.run([sys.executable, "-c", script, *args], **options)

    return run


@pytest.fixture
def two_cores():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")

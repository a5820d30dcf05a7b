import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

NEED_HYPOTHESIS = ["test_fuzz_calls.py", "test_fuzz_check.py", "test_fuzz_cli.py", "test_fuzz_mmtrace.py", "test_interface.py",
                   "test_latency.py", "test_mmtrace.py", "test_protocol.py", "test_trace.py"]
collect_ignore = [] if find_spec("hypothesis") else NEED_HYPOTHESIS


def pytest_report_header():
    return f"left out, since hypothesis is not installed: {', '.join(collect_ignore)}" if collect_ignore else None


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run what takes minutes, too")


def pytest_configure(config):
    if config.getoption("--long") and not collect_ignore:
        from hypothesis import settings  # noqa: PLC0415 - it may not be installed
        settings.register_profile("long", max_examples=20 * settings.default.max_examples)
        settings.load_profile("long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: --long runs it"))


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

"""Other kinds of interpreter: sub-interpreters are refused, free-threaded Python stays free-threaded."""
import sys
import sysconfig
import threading

import mmgen
import pytest

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_a_sub_interpreter_is_refused(python):
    script = """
from concurrent import interpreters
sub = interpreters.create()
try:
    sub.exec("import mmgen")
except interpreters.ExecutionFailed as error:
    print(error.excinfo.type.__name__)
"""
    if sys.version_info < (3, 14):
        name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        script = f"""
import {name} as interpreters
sub = interpreters.create()
code = '''
try:
    import mmgen
except ImportError as error:
    print("ImportError", flush=True)
'''
result = (interpreters.exec if hasattr(interpreters, "exec") else interpreters.run_string)(sub, code)
import mmgen
print(mmgen.MmGen(1).cpus)
"""
        pytest.importorskip(name)
    result = python(script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "ImportError"


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_the_gil_stays_off(python):
    result = python("import sys, mmgen; from mmgen import cli; print(sys._is_gil_enabled())")
    assert result.stdout.strip() == "False", result.stderr


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_two_handles_on_two_threads(two_cores):
    gen = mmgen.MmGen(2)
    cpus = [gen.cpu(0), gen.cpu(1)]

    enough = threading.Event()

    def drive(cpu):
        while not enough.is_set():
            cpu.quiescent()
        cpu.offline()

    threads = [threading.Thread(target=drive, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for _ in range(100):
        assert gen.wait(30)
    enough.set()
    for thread in threads:
        thread.join(60)
    assert all(cpu.switches >= 200 for cpu in cpus)

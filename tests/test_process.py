"""Signals, fork and the interpreter's exit, each in a process of its own: a clear error, never a hang, never a crash."""
import pytest
from conftest import SANITIZER

SETUP = """
import os, signal, sys, threading, time
import mmgen
"""


def ended_well(result):
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize("waits", ["gen.wait()", "gen.wait(60)", "gen.cpu(1).wait()", "mmgen.mm_gen_wait(gen)"])
def test_ctrl_c_ends_a_wait_within_50_ms(python, waits):
    late = ended_well(python(SETUP + f"""
gen = mmgen.MmGen(2)
lateness = []
for i in range(10):
    ready = threading.Event()
    def interrupt():
        global sent
        ready.wait()
        time.sleep(0.05)
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt).start()
    try:
        ready.set()
        {waits}
    except KeyboardInterrupt:
        lateness.append(time.monotonic() - sent)
print(len(lateness), sorted(lateness)[5] < 0.05)
"""))
    assert late == ["10", "True"]


def test_a_signal_that_raises_nothing_does_not_end_a_wait(python):
    assert ended_well(python(SETUP + """
gen = mmgen.MmGen(1)
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
def drive():
    time.sleep(0.3)
    for _ in range(2):
        gen.switch(0)
        gen.tick(0) and gen.wake()
threading.Thread(target=drive).start()
assert gen.wait()
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(seen) > 5, gen.generation)
""")) == ["True", "2"]


def test_ctrl_c_in_a_machine(python):
    assert ended_well(python(SETUP + """
try:
    with mmgen.Machine(2, workload=mmgen.Busy(1e9)) as machine:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        machine.gen.wait()
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
""")) == ["interrupted", "1"]


def test_fork_of_a_running_machine(python):
    assert ended_well(python(SETUP + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
with mmgen.Machine(2, hz=None, workload=mmgen.Busy(0)) as machine:
    for i in range(int(sys.argv[1])):
        waiting = threading.Thread(target=machine.gen.wait)
        waiting.start()
        pid = os.fork()
        if pid == 0:
            try:
                machine.gen.wait()
            except mmgen.DriverlessError as error:
                assert "forked" in str(error)
            else:
                os._exit(1)
            for call in (machine.gen.cpu(0).switch, machine.gen.cpu(0).online, lambda: machine.gen.tick(1)):
                try:
                    call()
                except mmgen.DriverlessError:
                    pass
                else:
                    os._exit(2)
            machine.close()
            with mmgen.Machine(2) as own:
                own.gen.wait()
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert machine.gen.wait(30)
        waiting.join()
print("done")
""", "4" if SANITIZER else "20")) == ["done"]          # a fork takes ThreadSanitizer a second


def test_a_machine_that_was_forked_before_its_start(python):
    assert ended_well(python(SETUP + """
machine = mmgen.Machine(2)
if os.fork() == 0:
    try:
        machine.start()
    except mmgen.DriverlessError:
        os._exit(0)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
with machine:
    print(machine.gen.wait())
""")) == ["0", "True"]


def test_ctrl_c_never_leaves_a_cpu_idle(python):
    assert ended_well(python(SETUP + """
gen = mmgen.MmGen(2)
cpu = gen.cpu(0)
main = threading.main_thread().ident
stop = False
def pester():
    while not stop:
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.0003)
pest = threading.Thread(target=pester)
interrupts = 0
armed = False
def handler(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
pest.start()
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    try:
        armed = True
        cpu.wait(0.001)
        cpu.switch()
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
    assert cpu.mode is mmgen.Mode.RUNNING
signal.signal(signal.SIGINT, signal.SIG_IGN)
stop = True
pest.join()
print(interrupts > 0, cpu.mode.name)
""")) == ["True", "RUNNING"]


def test_exit_without_close(python):
    assert ended_well(python(SETUP + """
machine = mmgen.Machine(2, hz=None, workload=mmgen.Busy(0))
machine.start()
idle = mmgen.Machine(2, workload="idle")
idle.start()
machine.gen.wait()
print("leaving")
""")) == ["leaving"]


def test_exit_while_a_daemon_waits(python):
    assert ended_well(python(SETUP + """
gen = mmgen.MmGen(2)
threading.Thread(target=gen.wait, daemon=True).start()
time.sleep(0.1)
print("leaving")
""")) == ["leaving"]


def test_an_exception_leaves_through_a_machine(python):
    result = python(SETUP + """
with mmgen.Machine(2) as machine:
    machine.gen.wait()
    raise LookupError("mine")
""")
    assert result.returncode == 1
    assert result.stderr.strip().endswith("LookupError: mine")


def test_a_driver_that_dies_while_the_main_thread_waits(python):
    assert ended_well(python(SETUP + """
mmgen.Machine._program = lambda machine, driver: lambda begin: 1 / 0
try:
    with mmgen.Machine(2) as machine:
        machine.gen.wait()
except mmgen.ClosedError as error:
    print("ZeroDivisionError" in str(error))
""")) == ["True"]

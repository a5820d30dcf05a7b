"""A sweep's own processes, and a real Dask cluster: what dies, what lingers, what is kept."""
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context

import pytest
from mmgen.lab import Case, Generation, Grid, Refcount, Shootdown, read, simulate, sweep
from mmgen.lab.workers import run_case
from test_cli import mmgen

pytestmark = pytest.mark.unsanitized("starts processes, and what is compiled is simulate()'s, which other tests run")

GRID = Grid(cpus=[2, 8], policy=[Refcount(), Shootdown(), Generation()], exits=0.1, idle=0.1, seconds=0.02)


def test_processes(tmp_path):
    path = tmp_path / "s.jsonl"
    s = sweep(GRID, path, workers=2)
    assert (s.ran, s.failed, s.stopped) == (6, (), None)
    assert read(path, GRID) == [simulate(case, keep_going=True) for case in GRID]


@pytest.mark.once
def test_somebody_elses_processes(tmp_path):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert sweep(GRID, tmp_path / "s.jsonl", pool, at_once=3).ran == 6
        assert pool.submit(os.getpid).result() != os.getpid()       # it is not shut down


DEADLY = """
import os, sys
import mmgen.lab.workers as workers
from mmgen.lab import Grid, read, sweep
def run(case, model, name, simulate=workers.run_case):
    {how}
    return simulate(case, model, name)
if __name__ == "__main__":
    sweeper = sys.modules["mmgen.lab.sweep"]
    sweeper.run_case = run
    s = sweep(Grid(cpus=1, seconds=0.001, seed=range(30)), "s.jsonl", workers=2)
    print(s.ran, sorted(case.seed for case, _ in s.failed), len(read("s.jsonl")), s.stopped)
    sweeper.run_case = workers.run_case
    s = sweep(Grid(cpus=1, seconds=0.001, seed=range(30)), "s.jsonl", workers=2)
    print(s.had, s.ran, len(s.failed))
"""


def script(python, text):
    """What a script, a file as users have it, prints."""
    out = python("import subprocess, sys; open('script.py', 'w').write(sys.argv[1]); "
                 "sys.exit(subprocess.call([sys.executable, 'script.py']))", text)
    assert out.returncode == 0, out.stderr
    return out.stdout.splitlines()


@pytest.mark.parametrize(("how", "failed"), [
    ("os._exit(3) if case.seed in (5, 6, 17) else None", [5, 6, 17]), ("os.kill(os.getpid(), 9) if case.seed == 29 else None", [29]),
    ("[][0] if case.seed == 2 else sys.exit('enough') if case.seed == 3 else None", [2, 3]),
])
def test_a_case_whose_worker_dies(python, how, failed):
    """It alone has failed; those that were under way beside it have not."""
    n = len(failed)
    assert script(python, DEADLY.format(how=how)) == [f"{30 - n} {failed} {30 - n} None", f"{30 - n} {n} 0"]


@pytest.mark.once
def test_processes_that_cannot_start(python):
    """As those of a script that does not guard its main part: it is not the cases, and the sweep stops."""
    assert script(python, """
import os
from mmgen.lab import Grid, sweep
if __name__ != "__main__":
    os._exit(1)
s = sweep(Grid(cpus=1, seconds=0.001, seed=range(99)), "s.jsonl", workers=1)
print(s.ran, len(s.failed), type(s.stopped).__name__)
""") == ["0 4 BrokenProcessPool"]


@pytest.mark.once
def test_a_worker_with_another_model_is_found_out():
    with pytest.raises(RuntimeError, match="this worker's mmgen simulates model 2, and the sweep is of model 3"):
        run_case(Case(cpus=1, seconds=0.001), 3, "")


# Dask.

@pytest.fixture(scope="module")
def cluster():
    """Two processes, with a scheduler that listens."""
    if not find_spec("distributed"):
        pytest.skip("distributed is not installed")
    import dask  # noqa: PLC0415
    import distributed  # noqa: PLC0415
    with (dask.config.set({"distributed.worker.daemon": False}), distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster):
        yield cluster


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")                   # its own, of sockets and loops that it leaves
def test_dask(tmp_path, cluster):
    import distributed  # noqa: PLC0415
    path = tmp_path / "s.jsonl"
    with distributed.Client(cluster, set_as_default=False) as client:
        s = sweep(GRID, path, client.get_executor(pure=False), at_once=4)
        assert (s.ran, s.failed, s.stopped) == (6, (), None)
        assert read(path, GRID) == [simulate(case, keep_going=True) for case in GRID]
        # Dask's own futures will do, too.
        assert sweep(GRID, tmp_path / "t.jsonl", client).ran == 6
        assert sweep(GRID, path, client).ran == 0


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_the_command_on_dask(tmp_path, cluster):
    out = mmgen("lab", "sweep", "--dask", cluster.scheduler_address, "--cpus", "2,4", "--seconds", 0.01, "-o", tmp_path / "s.jsonl")
    assert (out.returncode, out.stderr) == (0, "")
    assert "6 cases run in" in out.stdout
    assert len(read(tmp_path / "s.jsonl")) == 6
    out = mmgen("lab", "sweep", "--dask", cluster.scheduler_address, "--cpus", "2,4", "--seconds", 0.01, "-o", tmp_path / "s.jsonl")
    assert "0 cases run in" in out.stdout


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_a_dask_worker_that_dies(tmp_path, cluster):
    """Dask runs its cases elsewhere."""
    import distributed  # noqa: PLC0415
    path, killed = tmp_path / "s.jsonl", []

    def show(done, so_far):
        if so_far.ran and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    with distributed.Client(cluster, set_as_default=False) as client:
        s = sweep(Grid(cpus=64, seconds=0.2, seed=range(20)), path, client.get_executor(pure=False), show=show)
    assert (s.ran, s.failed, killed != []) == (20, (), True)
    assert len(read(path)) == 20


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_after_ctrl_c_the_cluster_is_free(tmp_path, cluster):
    """What is left of a sweep that was interrupted is cancelled on the cluster: the next need not wait for it."""
    import distributed  # noqa: PLC0415

    def show(done, so_far):
        if so_far.ran >= 1:                             # several may have come between two calls
            raise KeyboardInterrupt

    first = Case(cpus=1, seconds=0.001)
    with distributed.Client(cluster, set_as_default=False) as client:
        with pytest.raises(KeyboardInterrupt):
            sweep([first, *Grid(cpus=64, seconds=1, seed=range(200))], tmp_path / "s.jsonl", client.get_executor(pure=False), show=show)
        end = time.monotonic() + 30
        while any(client.processing().values()) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(client.processing().values())
        assert sweep(GRID, tmp_path / "t.jsonl", client.get_executor(pure=False)).ran == 6
    assert 1 <= len(read(tmp_path / "s.jsonl")) < 201


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("executor", ["get_executor", "itself"])
def test_a_cluster_that_is_gone(tmp_path, python, executor):
    """Its futures never end; the sweep does."""
    if not find_spec("distributed"):
        pytest.skip("distributed is not installed")
    lines = script(python, f"""
import distributed, logging
from mmgen.lab import Grid, read, sweep
logging.disable()
def show(done, so_far):
    if so_far.ran >= 3 and cluster.status.name == "running":
        cluster.close()
if __name__ == "__main__":
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    client = distributed.Client(cluster.scheduler_address, timeout=3)
    executor = client if {executor!r} == "itself" else client.get_executor(pure=False)
    s = sweep(Grid(cpus=64, seconds=0.3, seed=range(30)), "s.jsonl", executor, at_once=4, show=show)
    print(3 <= s.ran < 30, s.ran + len(s.failed) < 30, len(read("s.jsonl")) == s.ran, s.stopped)
""")
    assert lines[-1].startswith("True True True ")
    assert not lines[-1].endswith("None")

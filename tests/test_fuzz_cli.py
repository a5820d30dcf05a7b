"""The command line with whatever a shell may pass: a documented status, one line on standard error where it is 2, never a traceback."""
import argparse
import contextlib
import functools
import gzip
import io
import json
import os
import threading
from importlib.util import find_spec

import mmgen.machine
import pytest
from conftest import SANITIZER
from hostile import elsewhere, examples, no_hang  # noqa: F401 - the fixtures
from hypothesis import given
from hypothesis import strategies as st
from mmgen import cli

pytestmark = pytest.mark.usefixtures("no_hang", "elsewhere")

# What bounds a run's time: every command that is valid gets these, last, so that they count. A command that is not in here fails a test.
BOUNDED = {"run": ["--seconds", "0.005", "--rate", "200"], "check": ["--max-states", "200"], "torture": ["--minutes", "0.0005"],
           "lab simulate": ["--seconds", "0.00001", "--waiters", "3"], "lab compare": ["--seconds", "0.00001", "--waiters", "3"],
           "lab sweep": ["--seconds", "0.00001", "--waiters", "3", "--workers", "0"],
           "lab measure": ["--seconds", "0.002", "--waiters", "3", "--mm-bytes", "64"], "calibrate": ["--rounds", "2"],
           "lab validate": ["--rounds", "1", "--seconds", "0.001", "--cost", "ipi=1"], "convert": [],
           "record": ["--seconds", "0.005"], "replay": ["--rate", "100"]}
# Options whose valid values would be large or slow, and values to try instead of any number.
SMALL = {"--cpus": ["1", "2", "3", "0", "-1", "8193", str(2**70), "1,2", "3,,1"]}
WRITES = {"--html", "--json", "--perfetto", "--pictures", "--output", "--test"}
STATUSES = {0, 1, 2, 3, 130, 126, 127}    # those two: what is to be run while it is recorded cannot be, or is not there


@pytest.fixture(autouse=True, scope="module")
def nothing_is_recorded():
    """No word that is drawn is run as a program, and this machine is left alone; test_record.py records it."""
    if not find_spec("numpy"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmgen.lab.record.command.recorded", lambda *_: 0)
        yield


@functools.cache
def commands():
    """{name: its parser}, from the command's own; of a command that has commands, those."""
    return {name: parser for name, parser in below(cli.command()) if not (SANITIZER and name == "check")}       # it switches stacks


def below(parser, names=()):
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in inner:
        for name, command in action.choices.items():
            yield from below(command, (*names, name))
    if not inner:
        yield " ".join(names), parser


def test_every_command_is_bounded():
    assert set(commands()) == set(BOUNDED) - ({"check"} if SANITIZER else set())
    for name, arguments in BOUNDED.items() if not SANITIZER else ():
        known = {option for action in commands()[name]._actions for option in action.option_strings}
        assert {argument for argument in arguments if argument.startswith("--")} <= known


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths that make trouble, and two traces that do not."""
    home = tmp_path_factory.mktemp("cli")
    text = b"# mmtrace 1\tname=\xff\x1b[2J\tcpus=2\thz=250\n#\n0\t0\tS\t1\t1\t2\t2\n1000\t1\tT\n2000000\t0\tM\t5\t1\n"
    (home / "good.tsv").write_bytes(text)
    (home / "good.tsv.gz").write_bytes(gzip.compress(text))
    (home / "wide.tsv").write_bytes(text.replace(b"cpus=2", b"cpus=1000000"))
    (home / "empty").write_bytes(b"")
    (home / "binary\n2").write_bytes(bytes(range(256)))
    (home / "none\tof\nthem").write_bytes(text[:-5])
    os.mkfifo(home / "fifo")
    # So that opening it waits for nobody; who reads gets the end, and who writes is read.
    keep = os.open(home / "fifo", os.O_RDWR | os.O_NONBLOCK)
    secret = home / "unreadable"
    secret.write_bytes(text)
    secret.chmod(0)
    yield [*map(str, sorted(home.iterdir())), str(home), str(home / "missing" / "x"), "/dev/null", "/dev/full", "/dev/zero"]
    os.close(keep)


def number():
    return st.one_of(st.integers().map(str), st.floats().map(str), st.integers(1, 400).map(lambda n: str(n / 100)),
                     st.sampled_from(["nan", "inf", "-inf", "1e400", "1e-320", "0x10", "1_0", "\u0661", " 1", "", "9" * 5000, "-0",
                                      "none"]))


# No paths but ours: an option may write to what it names.
word = st.text(st.characters(exclude_characters="/"), max_size=4)


def values(action, files):
    """What to give an option: what it wants, and what it does not."""
    fits = st.sampled_from([str(choice) for choice in action.choices]) if action.choices else number()
    option = (action.option_strings or [action.dest])[-1]
    if option in SMALL:
        return st.sampled_from(SMALL[option])
    if option in WRITES:                                # nobody reads the fifo: who writes much to it waits for ever, as it should
        return st.one_of(word, st.sampled_from([path for path in files if not path.endswith((".tsv", ".gz", "fifo"))]))
    return st.one_of(fits, fits, st.sampled_from(files), word)


@st.composite
def command_lines(draw, files):
    name = draw(st.sampled_from(sorted(commands())))
    argv = name.split()
    actions = [action for action in commands()[name]._actions if action.option_strings or action.dest != "help"]
    for action in draw(st.lists(st.sampled_from(actions), max_size=5)):
        option = draw(st.sampled_from(action.option_strings)) if action.option_strings else None
        if option is not None and draw(st.integers(0, 9)) == 0:
            option = option[:draw(st.integers(1, len(option)))]         # a prefix, which may mean several
        argv += [option] * (option is not None)
        if action.nargs != 0:
            argv.append(draw(values(action, files)))
    argv += draw(st.lists(word, max_size=1))
    return argv + BOUNDED[name]


def called(argv):
    """The command's status, and what it wrote; in a process of its own it would be the same."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", "replace"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(argv)
        except SystemExit as leave:
            status = leave.code or 0
    out.seek(0)
    return status, out.read(), err.getvalue()


def judged(argv):
    """Call the command, and judge it."""
    before = threading.active_count()
    status, out, err = called(argv)
    assert status in STATUSES, (argv, err)
    assert "Traceback" not in err
    if status == 2:
        assert len(err.splitlines()) == 1
        assert err.startswith("mmgen")
        assert len(err.strip()) > len("mmgen run:")
        assert not out.strip()
    elif status == 0:
        assert err == ""
    assert threading.active_count() <= before
    return status


@given(data=st.data())
@examples(120)
def test_a_command_line(data, files):
    judged(data.draw(command_lines(files)))


@given(st.lists(st.one_of(word, st.sampled_from(["--help", "--version", "run", "--", "-", "--json", "-h"])), max_size=4))
@examples(60)
def test_any_words(words):
    if words and words[0] in commands():
        words = words + BOUNDED[words[0]]
    judged(words)


def test_the_fuzzer_reaches_a_run(files):
    """Not only errors: what fits is run."""
    good = next(path for path in files if path.endswith("good.tsv"))
    assert judged(["run", good, *BOUNDED["run"]]) == 0
    assert judged(["run", "--workload", "busy", "--hz", "none", *BOUNDED["run"]]) == 0
    status, out, _ = called(["run", good, "--json", "-", *BOUNDED["run"]])
    assert status == 0
    assert json.loads(out)["cpus"] == 2


def test_a_traceback_is_found(monkeypatch):
    monkeypatch.setattr(mmgen.cli, "run", lambda *_: {}["nobody"])
    with pytest.raises(KeyError):
        judged(["run", "--workload", "busy", *BOUNDED["run"]])


def test_a_second_line_is_found(files, monkeypatch):
    monkeypatch.setattr(cli, "printable", lambda text: text)
    with pytest.raises(AssertionError):
        judged(["run", next(path for path in files if path.endswith("binary\n2"))])


@pytest.mark.unsanitized("starts shells, which die of a runtime that is preloaded")
@pytest.mark.parametrize(("redirect", "status", "says"), [
    (">/dev/full", 2, "No space left on device"), ("--json - >/dev/full", 2, "No space left on device"),
    ("--json /dev/full", 2, "No space left on device"), ("| true", 0, ""), (">&-", 0, ""), ("--json - >&-", 2, "standard output is closed"),
    ("2>&-", 0, ""), ("--json '' ", 2, "No such file"), ("2>/dev/full", 0, ""), ("nothing 2>/dev/full", None, ""),
])
def test_where_its_output_goes(python, redirect, status, says):
    """Of a process of its own, whose standard output is full, closed, or nobody's: said in one line, not by the interpreter as it exits."""
    command = 'exec "$0" -c "import sys; from mmgen.cli import main; sys.exit(main())" run --workload busy --seconds 0.005'
    result = python(f"import os, sys; os.execl('/bin/sh', 'sh', '-c', {command + ' ' + redirect!r}, sys.executable)")
    if status is not None:
        assert result.returncode == status, result.stderr
    if "2>" not in redirect:
        assert "Traceback" not in result.stderr
        assert "Exception ignored" not in result.stderr
        if redirect != "| true":                        # which may win, or not
            assert len(result.stderr.splitlines()) == (status != 0)
            assert says in result.stderr

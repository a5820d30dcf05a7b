"""What the documents show, runs."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def examples():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            yield pytest.param(code, id=f"{page.name}-{i}")


@pytest.mark.parametrize("code", list(examples()))
def test_an_example_runs(code, python):
    if "mmgen.lab" in code:
        pytest.importorskip("numpy", reason="the lab needs numpy")
    if "pictures" in code:
        pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    result = python("import warnings; warnings.simplefilter('error')\n" + code)
    assert result.returncode == 0, result.stderr
    printed = re.findall(r"print\(.*\) +# (.*)", code)
    assert result.stdout.splitlines() == printed


def test_the_readme_has_its_commands():
    text = (ROOT / "README.md").read_text()
    assert "mmgen run" in text
    assert "tests/run" in text
    assert "pytest benchmarks/" in text
    assert "tests/run" in (ROOT / ".ci" / "run").read_text()

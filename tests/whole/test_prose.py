"""The check of prose that `make lint` runs: phrases that a reader has to read twice."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "prose.py"


def check(directory, name, text):
    (directory / name).write_text(text)
    command = [sys.executable, SCRIPT, name]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", "# Draw it anew.\n", "a.py:1: 'anew'"),
        ("a.py", '"""Two rows.\n\nNobody is told.\n"""\n', "a.py:3: 'is told'"),
        ("a.py", 'print("Wait. What waits is sent.")\n', "a.py:1: 'What'"),
        ("a.py", 'print(f"{1} is no number")\n', "a.py:1: 'is no number'"),
        ("a.py", 'def f():\n    """Whether it is."""\n', "a.py:1: 'Whether'"),
        ("a.md", "One.\n\n- Of rows, one is left.\n", "a.md:3: 'Of rows'"),
        ("a.js", "/* Whoever asks. */\n", "a.js:1: 'Whoever'"),
        ("a.html", "<p>Somebody left</p>\n", "a.html:1: 'Somebody'"),
    ],
)
def test_a_phrase_is_found(tmp_path, name, text, found):
    status, output = check(tmp_path, name, text)
    assert status == 1
    assert output.startswith(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "# There is no row. It is no longer there. Of course. What is it?\n"),
        ("a.py", "class A:\n    @property\n    def b(self):\n        '''Whether it is.'''\n"),
        ("a.py", "# What is served\n\nanew = 1\n"),
        ("a.md", "# What is served\n\n```\nanew\n```\n"),
    ],
)
def test_english_passes(tmp_path, name, text):
    assert check(tmp_path, name, text) == (0, "")

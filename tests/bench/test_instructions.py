"""Counting instructions by Python function."""

from tests.bench.instructions import counted

COUNTS = """\
fn=(1) py_10012
12 300
cfn=(2) _PyEval_EvalFrameDefault
calls=2 40
+3 5000
fn=(2)
40 700
cfn=(3) py_10001
calls=4 9
* 2000
"""


def test_a_function_has_the_instructions_of_what_it_calls() -> None:
    """A function's instructions are its own and those of its calls; others are left out."""
    assert list(counted(COUNTS)) == [(0o12, 300, 0), (0o12, 5000, 0), (1, 0, 4)]

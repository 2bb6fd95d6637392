"""Why a job failed, found in logs as programs really write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.lastlines import LONGEST, MOST, last_lines, looks_wrong

PYTHON = """reading rain.csv
Traceback (most recent call last):
  File "/models/run.py", line 40, in <module>
    main()
  File "/models/run.py", line 31, in main
    table = read(sys.argv[1])
            ^^^^^^^^^^^^^^^^^
  File "/models/run.py", line 12, in read
    return [float(row["rain"]) for row in rows]
            ^^^^^^^^^^^^^^^^^^
ValueError: could not convert string to float: 'n/a'
"""

CHAINED = """Traceback (most recent call last):
  File "a.py", line 2, in <module>
    int("x")
ValueError: invalid literal for int() with base 10: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 4, in <module>
    raise SystemError("the year must be a number") from None
SystemError: the year must be a number
"""

GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 3, in <module>
  |     raise ExceptionGroup("two", [ValueError("one")])
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: one
    +------------------------------------
"""

R = """> library(hydro)
> fit <- lm(flow ~ rain, data = d)
Error in eval(predvars, data, env) : object 'rain' not found
Calls: lm -> eval -> eval -> model.frame -> model.frame.default -> eval -> eval
Execution halted
"""

FORTRAN = """ reading grid
 nx =          200
At line 12 of file flow.f90 (unit = 10, file = 'grid.dat')
Fortran runtime error: End of file

Error termination. Backtrace:
#0  0x7f1e5a2d4ad0 in ???
#1  0x7f1e5a2d5649 in ???
#2  0x7f1e5a2d5c7f in ???
"""

C = """mesh: 4012 nodes
solver: solve.c:211: solve: Assertion `n > 0' failed.
Aborted (core dumped)
"""

JAVA = """10:31:02 INFO  Reading network
Exception in thread "main" java.lang.RuntimeException: cannot read network
\tat org.flow.Main.run(Main.java:40)
\tat org.flow.Main.main(Main.java:12)
Caused by: java.io.FileNotFoundException: network.xml (No such file or directory)
\tat java.base/java.io.FileInputStream.open0(Native Method)
\tat java.base/java.io.FileInputStream.open(FileInputStream.java:219)
\t... 2 more
"""

GAMS = """--- Job trnsport.gms Start 11/23/26 07:00:00
--- Starting compilation
--- trnsport.gms(34) 3 Mb 1 Error
*** Error 170 in trnsport.gms
    Domain violation for element
*** Status: Compilation error(s)
--- Job trnsport.gms Stop 11/23/26 07:00:00
"""

SHELL = """step 1
./run: line 3: cdo: command not found
"""

SOLVER = """GLPSOL: GLPK LP/MIP Solver, v4.65
Reading model section from model.mod...
model.mod:12: syntax error in variable statement
Context: ... var x integer , >= 0 , <= 10 ; var y integer , >= 0 , <=
MathProg model processing error
"""

MEMORY = """allocating 96 GB
terminate called after throwing an instance of 'std::bad_alloc'
  what():  std::bad_alloc
"""


def wrong(log: str) -> list[str]:
    return [line.text for line in last_lines(log) if line.wrong]


def text(log: str) -> str:
    return "\n".join(line.text for line in last_lines(log))


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (PYTHON, "ValueError: could not convert string to float: 'n/a'"),
        (CHAINED, "SystemError: the year must be a number"),
        (GROUP, "  | ExceptionGroup: two (1 sub-exception)"),
        (R, "Error in eval(predvars, data, env) : object 'rain' not found"),
        (FORTRAN, "Fortran runtime error: End of file"),
        (C, "solver: solve.c:211: solve: Assertion `n > 0' failed."),
        (JAVA, "Caused by: java.io.FileNotFoundException: network.xml (No such file or directory)"),
        (GAMS, "*** Error 170 in trnsport.gms"),
        (SHELL, "./run: line 3: cdo: command not found"),
        (SOLVER, "model.mod:12: syntax error in variable statement"),
        (MEMORY, "  what():  std::bad_alloc"),
    ],
)
def test_the_reason_is_found_and_marked(log: str, reason: str) -> None:
    assert reason in wrong(log)
    # Also far down a long log, with harmless lines after it.
    noise = "".join(f"day {n} of 365\n" for n in range(1000))
    assert reason in wrong(noise + log)
    assert reason in wrong(noise + log + "cleaning up\nremoving /tmp/x\n")


def test_a_traceback_ends_with_its_last_frames_and_its_message() -> None:
    shown = text(PYTHON)
    assert shown.startswith("Traceback (most recent call last):\n  ...\n")
    assert "line 12, in read" in shown and "line 40, in <module>" not in shown
    assert "reading rain.csv" not in shown
    assert "base 10" not in text(CHAINED)


def test_a_message_of_several_lines_is_kept() -> None:
    log = PYTHON + "in the rows\n17 and 18\n"
    assert text(log).endswith("'n/a'\nin the rows\n17 and 18")


def test_a_traceback_that_is_cut_off_shows_what_there_is() -> None:
    log = PYTHON[: PYTHON.index("ValueError")]
    assert text(log).endswith("^^^^^^^^^^^^^^^^^^")


def test_what_stands_around_an_error_is_told() -> None:
    assert "Calls: lm" in text(R) and "Execution halted" in wrong(R)
    assert "At line 12 of file flow.f90" in text(FORTRAN)
    assert "Domain violation for element" in text(GAMS)
    assert text(SHELL).startswith("step 1\n")


def test_only_the_last_errors_are_told() -> None:
    log = "Error: of long ago, and mended\n" + "fine\n" * 50 + SHELL
    assert "mended" not in text(log)


@pytest.mark.parametrize(
    "line",
    [
        "0 errors, 3 warnings",
        "finished with no errors",
        "relative error = 3.2e-05",
        "max error: 0.0012",
        "mean error (mm): -.4",
        "tests failed: 0",
        "day 12 of 365",
        "mirror terror",
    ],
)
def test_what_only_sounds_like_an_error_is_none(line: str) -> None:
    assert not looks_wrong(line)


def test_without_any_error_the_last_lines_are_shown() -> None:
    log = "".join(f"day {n}\n" for n in range(100)) + "\n\n"
    assert [line.text for line in last_lines(log)] == [f"day {n}" for n in range(90, 100)]
    assert last_lines("") == [] and last_lines("\n \n") == []


def test_progress_is_no_news() -> None:
    assert text("working\n::progress 42 no error here\n::progress 50\n") == "working"


def test_many_errors_show_the_first_and_the_last() -> None:
    log = "".join(f"error {n}\n" for n in range(300))
    shown = [line.text for line in last_lines(log)]
    assert len(shown) == MOST and "..." in shown and shown[-1] == "error 299"


@given(st.text(alphabet=st.sampled_from("aE \n\t:^|~") | st.characters(), max_size=400))
def test_it_is_bounded_whatever_the_log_holds(log: str) -> None:
    for found in (last_lines(log), last_lines("Traceback (most recent call last):\n" + log)):
        assert len(found) <= MOST
        assert all(len(line.text) <= LONGEST and "\n" not in line.text for line in found)


def test_a_number_far_behind_the_word_is_not_its_own() -> None:
    # Nor is it looked for: through a line of 64 KiB of "error error ..." that took seconds.
    assert not looks_wrong("error in the last step: 5")
    assert looks_wrong(f"error {'word ' * 40}: 5")


def test_long_lines_are_cut() -> None:
    assert len(last_lines("error " + "x" * 10_000)[0].text) == LONGEST

"""Nothing counts as passed but right results, and nothing that a candidate does harms the next (chapter 19)."""

import os
import subprocess
import sys
import time

import pytest

from minillama.family.sandbox import Case, Limits, Sandbox, Verdict

LAST = "def f(xs):\n    return xs[-1]"
CASES = [Case(([1, 2, 3],), 3), Case(([5],), 5)]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's")


@pytest.fixture(scope="module")
def box():
    with Sandbox(Limits(seconds=0.7)) as sandbox:
        yield sandbox


def test_a_right_function_passes(box):
    assert box.test(LAST, "f", CASES) == Verdict(True, "passed")


REFUSED = {
    "wrong": ("def f(xs):\n    return xs[0]", "wrong result"),
    "right once": ("def f(xs):\n    return 3", "wrong result"),
    "loop": ("def f(xs):\n    while True:\n        pass", "timeout"),
    "loop at import": ("while True:\n    pass", "timeout"),
    "sleep": ("import time\ndef f(xs):\n    time.sleep(60)", "timeout"),
    "memory at once": ("def f(xs):\n    return len([0] * 10**10)", "MemoryError"),
    "memory bit by bit": ("def f(xs):\n    a = []\n    while True:\n        a.append('x' * 10**6)", "MemoryError"),
    "print for ever": ("def f(xs):\n    while True:\n        print('passed' * 1000)", "timeout"),
    "print": ("def f(xs):\n    print('passed', '{\"results\": [3, 5]}')", "wrong result"),
    "huge result": ("def f(xs):\n    return 'a' * 10**6", "too long"),
    "os._exit": ("import os\nos._exit(0)", "no results"),
    "os._exit later": ("import os\ndef f(xs):\n    os._exit(0)", "no results"),
    "sys.exit": ("import sys\nsys.exit(0)", "SystemExit"),
    "SystemExit": ("def f(xs):\n    raise SystemExit(0)", "SystemExit"),
    "kills itself": ("import os\ndef f(xs):\n    os.kill(os.getpid(), 9)", "no results"),
    "kills its group": ("import os\ndef f(xs):\n    os.killpg(0, 9)", "no results"),
    "equals everything": (
        "class Yes(int):\n    def __eq__(self, o):\n        return True\n    __hash__ = None\n"
        "def f(xs):\n    return Yes()",
        "wrong result",
    ),
    "other type": ("def f(xs):\n    return float(xs[-1])", "wrong result"),
    "not for JSON": ("def f(xs):\n    return {1, 2}", "TypeError"),
    "new assert": ("import builtins\nbuiltins.AssertionError = None\ndef f(xs):\n    return None", "wrong result"),
    "no function": ("x = 1", "KeyError"),
    "no Python": ("def f(xs:", "SyntaxError"),
    "zero byte": ("x = '\0'", "SyntaxError"),
    "half a character": ("x = '\ud800'", "UnicodeEncodeError"),
    "recursion": ("def f(xs):\n    return f(xs)", "RecursionError"),
    "error": ("def f(xs):\n    return xs[9]", "IndexError"),
    "deep result": (
        "def f(xs):\n    a = []\n    for _ in range(10**5):\n        a = [a]\n    return a",
        "RecursionError",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_does_not(box, name):
    source, reason = REFUSED[name]
    started = time.monotonic()
    verdict = box.test(source, "f", CASES)
    assert not verdict.passed and verdict.reason in (reason, "timeout" if "memory" in name else reason)
    assert time.monotonic() - started < 6
    assert box.test(LAST, "f", CASES).passed  # the next is not harmed


def test_results_on_the_channel_are_worth_nothing_unless_right(box):
    forged = "import os\nfor fd in range(3, 16):\n    try:\n        os.write(fd, b'{\"results\": [%s, %s]}')\n"
    forged += "    except OSError:\n        pass\nos._exit(0)"
    assert not box.test(forged % ('"1"', '"1"'), "f", CASES).passed
    assert not box.test(forged % ("true", "true"), "f", CASES).passed


def test_expected_results_are_not_in_the_process(box):
    # searches its own frames and all objects for the number that only the tests know
    source = (
        "import gc, sys\n"
        "def f(x):\n"
        "    secret, frame, seen = int('81') * 10**4 + 27, sys._getframe().f_back, ''\n"
        "    while frame:\n"
        "        seen, frame = seen + repr(frame.f_locals) + repr(frame.f_globals), frame.f_back\n"
        "    seen += ''.join(repr(o) for o in gc.get_objects() if type(o) in (list, tuple, dict) and len(o) < 50)\n"
        "    return [str(secret) in seen, 'results' in seen or len(seen) > 500]"
    )
    assert box.test(source, "f", [Case((1,), 810027)]).reason == "wrong result"
    assert box.test(source, "f", [Case((1,), [False, True])]).passed  # it looked, and 810027 was not there


def test_no_new_processes_and_no_files(box, tmp_path):
    for source, reason in (
        ("import os\ndef f(xs):\n    os.fork()\n    return xs[-1]", "BlockingIOError"),
        ("def f(xs):\n    open('here.txt', 'w').write('a' * 100)\n    return xs[-1]", None),
    ):
        verdict = box.test(source, "f", CASES)
        if os.geteuid() == 0 and reason is None:
            assert verdict.reason == "PermissionError"
        assert not verdict.passed and (reason is None or verdict.reason == reason)


def test_nothing_of_our_environment_is_seen(box, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    with Sandbox(Limits(seconds=1)) as fresh:
        assert fresh.test("import os\ndef f():\n    return os.environ.get('SECRET', '')", "f", [Case((), "")]).passed
    source = "import sys\ndef f():\n    return [sys.flags.isolated, sys.flags.no_site]"
    assert box.test(source, "f", [Case((), [1, 1])]).passed


def test_arguments_are_fresh_for_each_candidate(box):
    assert box.test("def f(xs):\n    return xs.pop()", "f", CASES).passed
    assert CASES[0].arguments == ([1, 2, 3],)
    assert box.test("t = (1, 2)\ndef f(xs):\n    return t", "f", [Case(([],), [1, 2])]).passed  # a tuple is a list


def test_a_candidate_leaves_nothing_for_the_next(box):
    box.test("import builtins, json\nbuiltins.len = lambda x: 3\njson.dumps = lambda x: '3'\n" + LAST, "f", CASES)
    assert box.test("def f(xs):\n    return len(xs)", "f", [Case(([1, 2],), 2)]).passed


def test_a_dead_server_is_replaced(box):
    assert box.test(LAST, "f", CASES).passed
    box._server.kill()
    box._server.wait()
    assert not box.test(LAST, "f", CASES).passed  # this one is lost, and does not count as passed
    assert box.test(LAST, "f", CASES).passed


def test_nothing_is_left_running():
    with Sandbox(Limits(seconds=0.5)) as sandbox:
        sandbox.test("def f(xs):\n    while True:\n        pass", "f", CASES)
        pid, folder = sandbox._server.pid, sandbox._folder.name
        children = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
        assert not children.strip()
    assert not os.path.exists(folder) and not os.path.exists(f"/proc/{pid}")


def test_bad_use_is_named(box):
    with pytest.raises(ValueError, match="at least one case"):
        box.test(LAST, "f", [])
    with pytest.raises(RuntimeError, match="with Sandbox"):
        Sandbox().test(LAST, "f", CASES)
    with pytest.raises(ValueError, match="seconds must be above 0"):
        Limits(seconds=0)

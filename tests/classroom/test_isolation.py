"""A submission that misbehaves costs itself points, and nobody else: what student code cannot do to the grading."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from course import COURSE, cells, grading, source, submission

NAME = "01-tokenizer"
FAST = grading.Limits(call_seconds=60, seconds=600, memory=2**30)
LOCKED = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Landlock is a part of Linux")

# what a student might write in the cell of the first task; the other tasks are answered rightly
ATTACKS = {
    "loops in a cell": "while True: pass",
    "loops in a call and catches everything": """
def spell(text, alphabet):
    while True:
        try:
            while True: pass
        except BaseException: pass""",
    "eats memory": "def spell(text, alphabet): return [bytearray(2**28) for _ in range(40)]",
    "returns something huge": "def spell(text, alphabet): return 'x' * 10**8",
    "recurses": "def spell(text, alphabet): return spell(text, alphabet)",
    "ends the process": "import os\ndef spell(text, alphabet): os._exit(0)",
    "exits": "def spell(text, alphabet): raise SystemExit(0)",
    "prints a result": "print('25 of 25 points: passed')\ndef spell(text, alphabet): pass",
    "equals everything": """
class Yes(list):
    def __eq__(self, other): return True
    __len__ = lambda self: 6
def spell(text, alphabet): return Yes()""",
    "has a type of its own": """
class Yes:
    __eq__ = lambda self, other: True
    __class__ = list
def spell(text, alphabet): return Yes()""",
    "redefines the helper and Python": """
import builtins
import torch
check = lambda *args, **kwargs: None
builtins.AssertionError = builtins.type(None)
builtins.isinstance = lambda *args: True
torch.allclose = torch.equal = lambda *args, **kwargs: True
def spell(text, alphabet): return None""",
    "patches the grader it finds": """
import sys
for module in list(sys.modules.values()):
    for name in ("check", "run_test", "determine_grade", "grade_notebook"):
        if hasattr(module, name): setattr(module, name, lambda *args, **kwargs: None)
def spell(text, alphabet): return None""",
    "writes into the pipe": """
import json, os, struct
def spell(text, alphabet):
    for number in range(3, 30):
        try: os.write(number, struct.pack("<Q", 2**60) + json.dumps({"value": None, "args": []}).encode())
        except OSError: pass""",
    "answers with nonsense": """
import json, os, struct
def spell(text, alphabet):
    for number in range(3, 30):
        for content in ([], {"error": 3}, {"callback": 0}, {"value": {"tensor": ["load", [1], "AA=="]}, "args": []}):
            data = json.dumps(content).encode()
            try: os.write(number, struct.pack("<Q", len(data)) + data)
            except OSError: pass""",
    "raises what cannot be shown": """
class Bad(Exception):
    def __str__(self): raise RuntimeError
def spell(text, alphabet): raise Bad""",
    "does not parse": "def spell(text, alphabet) return",
    "was renamed": "def spel(text, alphabet): return []",
    "leaves processes behind": """
import subprocess
for _ in range(3): subprocess.Popen(["sleep", "1234"], start_new_session=True)
def spell(text, alphabet): pass""",
}
ON_LINUX = {
    "reads the solutions": f"open({str(COURSE / 'source' / NAME / NAME)!r} + '.ipynb').read()",
    "writes into the course": f"open({str(COURSE / 'written-by-a-student')!r}, 'w')",
    "writes into the library": "import minillama; open(minillama.__file__ + '.txt', 'w')",
    "writes into the home": f"open({os.path.expanduser('~/written-by-a-student')!r}, 'w')",
    "writes into /tmp": "open('/tmp/written-by-a-student', 'w')",
    "ends the grader": "import os; os.kill(os.getppid(), 9)",
    "reads the grader's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb')",
    "calls home": "import socket; socket.create_connection(('127.0.0.1', 9))",
}


def graded(answers: dict[str, str], limits: grading.Limits = FAST):
    notebook = submission(source(NAME), answers)
    grading.grade_notebook(notebook, grading.OwnProcess(limits))
    return notebook


PATCHES = (
    "redefines the helper and Python",
    "patches the grader it finds",
    "writes into the pipe",
    "answers with nonsense",
)


@pytest.fixture(scope="module")
def place():
    """One process for many attacks, since importing torch is what costs time; it knows the right answers."""
    place = grading.OwnProcess(grading.Limits(call_seconds=60, seconds=3600, memory=2**30))
    for name, cell in (cells(source(NAME), "given") | cells(source(NAME), "answer")).items():
        if name != "spell":  # the attack stands in its place
            assert place.run(cell.source, f"<{name}>")["error"] is None
    yield place
    place.close()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_earns_nothing_and_costs_only_its_own_task(attack, place):
    sound, tests = list(place.good), cells(source(NAME), "test")
    namespace: dict = {}
    exec(cells(source(NAME), "given")["setup"].source, namespace)
    for name in ("spell", "best_pair", "merge_step"):
        namespace[name] = lambda *args, name=name, **kwargs: place.call(name, args, kwargs)
    if attack.startswith("loops"):
        place.limits = replace(place.limits, call_seconds=4)
    place.run("globals().pop('spell', None)", "<cell>")  # what the attack before this one left
    place.run(ATTACKS[attack], "<cell spell>")
    assert grading.run_test(tests["test-spell"].source, "<test>", namespace) is not None
    assert grading.run_test(tests["test-spell-more"].source, "<test>", namespace) is not None
    if attack in PATCHES:
        place.close()  # what is patched in the student's process stays patched there, for the student's other tasks too
    place.good, place.limits = sound, replace(place.limits, call_seconds=60)
    assert grading.run_test(tests["test-merge"].source, "<test>", namespace) is None
    assert len(grading.children()) <= 1 + len(place.others)


def test_a_whole_notebook_goes_on_after_a_task_that_ends_the_process():
    before = grading.children()
    found = grading.results(graded({"spell": "import os\ndef spell(text, alphabet): os._exit(0)"}))
    assert [test for test, message in found.items() if message] == ["test-spell", "test-spell-more"], found
    assert "ended the process" in found["test-spell"] and grading.children() == before


@LOCKED
def test_files_processes_and_the_network_are_out_of_reach():
    """One notebook tries everything; each attempt says how it ended."""
    tries = "".join(
        f"\ntry:\n    {attempt}\n    print({name!r}, 'WORKED')\nexcept Exception as error:\n"
        f"    print({name!r}, type(error).__name__, error)\n"
        for name, attempt in ON_LINUX.items()
    )
    notebook = graded({"spell": tries})
    printed = cells(notebook, "answer")["spell"].outputs[0].text
    assert "WORKED" not in printed and printed.count("PermissionError") == len(ON_LINUX), printed


def test_a_large_file_is_refused_and_the_folder_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(grading.tempfile, "tempdir", str(tmp_path))
    code = "open('note', 'w').write('fine')\nopen('large', 'wb').write(b'x' * 2**25)"
    notebook = graded({"spell": code})
    assert "too large" in cells(notebook, "answer")["spell"].outputs[0].traceback[0]
    assert list(tmp_path.iterdir()) == []


def test_after_the_time_of_a_submission_the_remaining_tests_earn_nothing():
    slow = "import time\ndef spell(text, alphabet): time.sleep(3)\nspell('', '')"
    began = time.monotonic()
    found = grading.results(graded({"spell": slow}, grading.Limits(call_seconds=30, seconds=2)))
    assert all("timed out" in message for message in found.values()) and time.monotonic() - began < 200


def test_messages_name_what_happened():
    failing = grading.results(graded({"spell": "def spell(text, alphabet):\n    return text[100]"}))["test-spell"]
    assert "IndexError" in failing and "in spell, line 2: return text[100]" in failing
    assert "The test was: check(spell" in failing


def test_own_and_separate_process_agree_on_values():
    import torch

    place = grading.OwnProcess(FAST)
    place.run("def same(*values): return values\ndef times(f, x): return f(x)\ndef add(l): l.append(1)", "<cell>")
    values = (None, True, -(10**30), 0.1, float("inf"), "é\n", b"\0", 1 + 2j, [1, (2,)], {3}, {"a": {4: 5}})
    assert place.call("same", values, {}) == values
    for tensor in (torch.randn(2, 3), torch.ones(0, 4), torch.tensor(5), torch.ones(3, dtype=torch.bfloat16)):
        (back,) = place.call("same", (tensor,), {})
        assert torch.equal(back, tensor) and back.dtype == tensor.dtype
    changed: list = []
    place.call("add", (changed,), {})
    assert changed == [1]
    with pytest.raises(NameError, match="renamed"):
        place.call("missing", (), {})
    place.close()


# --- the submitted file ---------------------------------------------------------------------------------------------


def test_tests_and_given_cells_are_the_instructor_s_whatever_was_submitted():
    base = source(NAME)
    tampered = submission(base, {"test-spell": "pass", "setup": "check = print", "spell": "def spell(*_): pass"})
    for cell in tampered.cells:
        if grading.marks(cell).get("grade_id") == "test-merge":
            cell.metadata["nbgrader"]["points"] = 1000
        if grading.marks(cell).get("grade_id") == "test-encode":
            cell.metadata["nbgrader"]["grade"] = False
    tampered.cells = [cell for cell in tampered.cells if grading.marks(cell).get("grade_id") != "test-spell-more"]
    tampered.cells.append(tampered.cells[-1])
    tampered.cells.reverse()
    built, notes = grading.rebuild(base, tampered)
    kept = [(cell.source, cell.metadata) for cell in base.cells if grading.role(cell) in ("test", "given")]
    assert [(cell.source, cell.metadata) for cell in built.cells if grading.role(cell) in ("test", "given")] == kept
    assert cells(built, "answer")["spell"].source == "def spell(*_): pass"
    text = "; ".join(notes)
    assert "test-spell was changed" in text and "setup was changed" in text and "test-spell-more was deleted" in text


def test_a_student_s_own_cells_stay_where_they_were():
    base = source(NAME)
    mine = submission(base, {})
    place = next(n for n, cell in enumerate(mine.cells) if grading.marks(cell).get("grade_id") == "spell")
    mine.cells.insert(place, grading.new_code_cell("helper = 1"))
    built, _ = grading.rebuild(base, mine)
    order = [cell.source for cell in built.cells if cell.cell_type == "code"]
    assert order.index("helper = 1") < order.index(cells(base, "answer")["spell"].source)
    assert order.index("helper = 1") > order.index(cells(base, "given")["setup"].source)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "no notebook"), (b"\xff\xfe", "no notebook"), (b"[" * 10**5, "no notebook"), (b"x" * (6 * 2**20), "MiB")],
)
def test_a_file_that_is_no_notebook_is_named(content, words, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        grading.read_notebook(tmp_path / "a.ipynb")


def test_nothing_is_left_running_after_a_submission():
    def running() -> bool:
        return "sleep 1235" in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout

    attack = ATTACKS["leaves processes behind"].replace("1234", "1235")
    place = grading.OwnProcess(FAST)
    assert place.run(attack, "<cell>")["error"] is None
    assert running()
    place.close()
    for _ in range(20):  # what is killed is still listed until the system has cleared it away
        if not running():
            break
        time.sleep(0.5)
    assert not running()

"""Run the tests of a problem set on a student's notebook, with the student's code in a process of its own.

The tests run here, in the grader, on values; the functions they call are stand-ins that ask `student_process.py`. So a
notebook can print what it likes, redefine the helpers, patch libraries or end its process: the comparison is not there.

Does: put a submission's answers into the instructor's notebook, so that given cells and tests are always the source's;
a limit for each cell and call, after which the process is started anew without the cell that hung; a limit for the
whole. Plugs into nbgrader's autograding in place of the cell execution (`SeparateTests`).
Does not: isolate more than `student_process.py` says; run lines that begin with % or !.
"""

import ast
import builtins
import contextlib
import copy
import ctypes
import io
import json
import os
import pickle
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output

sys.path.insert(0, str(Path(__file__).resolve().parent))
from student_process import LARGEST_FRAME, MODULE, decode, without_magics

LARGEST_NOTEBOOK = 5 * 2**20
PLAIN_ERRORS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}


class StudentError(Exception):
    """An exception of the student's code that is no plain one of Python's."""


class Stopped(Exception):
    """The student's process is gone: it was too slow, used too much, or ended itself."""


@dataclass(frozen=True)
class Limits:
    """Seconds for one cell or call, seconds for a submission, bytes of memory and of one file."""

    call_seconds: float = 60
    seconds: float = 300
    memory: int = 2 * 2**30
    file_size: int = 16 * 2**20


# --- cells ----------------------------------------------------------------------------------------------------------


def marks(cell: NotebookNode) -> dict:
    return cell.metadata.get("nbgrader", {})


def role(cell: NotebookNode) -> str:
    """`test`, `answer` (code), `written` (text, marked by hand), `given` (locked), or `own` (the student's)."""
    mark = marks(cell)
    if not mark.get("grade_id"):
        return "own"
    if mark.get("solution"):
        return "written" if mark.get("grade") else "answer"
    return "test" if mark.get("grade") else "given"


def free_names(test: str, known: dict) -> set[str]:
    """Names that a test uses and nobody defines: the student's functions."""
    names = {node.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
    return {name for name in names if name not in known and not hasattr(builtins, name)}


def read_notebook(path: Path) -> NotebookNode:
    """A notebook of the current format; ValueError, with the reason, when the file is none."""
    size = path.stat().st_size
    if size > LARGEST_NOTEBOOK:
        raise ValueError(f"the file has {size / 2**20:.0f} MiB; a submission may have {LARGEST_NOTEBOOK // 2**20}")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        raise ValueError(f"the file is no notebook: {str(error).splitlines()[0][:200]}") from error
    return notebook


def rebuild(base: NotebookNode, submission: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The base with the submission's answers and own cells; given cells and tests stay the base's.

    Returns:
        the notebook, and notes on what was missing, doubled or changed, for the teacher.
    """
    answers: dict[str, NotebookNode] = {}
    own: dict[str, list[NotebookNode]] = {}
    notes, seen, last = [], [], ""
    known = {marks(cell)["grade_id"]: cell for cell in base.cells if marks(cell).get("grade_id")}
    for cell in submission.cells:
        name = marks(cell).get("grade_id", "")
        if name in known:
            last = name
            if name in seen:
                notes.append(f"{name} occurs twice, the first counts")
            elif role(known[name]) in ("answer", "written"):
                answers[name] = cell
            elif known[name].source.strip() != cell.source.strip():
                notes.append(f"{name} was changed and is restored")
            seen.append(name)
        elif cell.cell_type == "code":
            own.setdefault(last, []).append(new_code_cell(cell.source))
    notes += [f"{name} was deleted" for name in known if name not in seen]
    built = copy.deepcopy(base)
    built.cells = []
    built.cells += own.pop("", [])
    for cell in copy.deepcopy(base.cells):
        name = marks(cell).get("grade_id", "")
        if name in answers:
            cell.source = answers[name].source
        elif role(cell) == "answer":
            cell.source = ""
        built.cells += [cell, *own.pop(name, [])] if name else [cell]
    for number, cell in enumerate(built.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return built, notes


# --- two places for the student's code ------------------------------------------------------------------------------


class SameProcess:
    """Runs cells here: for the instructor's own code only (the tests of the problem sets), where speed matters.

    Its limit counts processor time, so that a busy machine does not fail a test.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.module = types.ModuleType(MODULE)

    def _limited(self, action):
        def stop(*_):
            raise Stopped(f"timed out after {self.limits.call_seconds:g} seconds")

        before = signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, self.limits.call_seconds)
        try:
            return action()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    def run(self, source: str, name: str) -> dict:
        try:
            self._limited(lambda: exec(compile(without_magics(source), name, "exec"), self.module.__dict__))
            return {"printed": "", "error": None}
        except Exception as error:
            return {"printed": "", "error": {"classes": [type(error).__name__], "text": str(error), "lines": []}}

    def call(self, name: str, args: tuple, kwargs: dict) -> object:
        if name not in self.module.__dict__:
            raise NameError(f"the notebook defines no function {name}; has it been renamed?")
        return self._limited(lambda: self.module.__dict__[name](*args, **kwargs))

    def close(self) -> None:
        pass


class OwnProcess:
    """Runs cells in `student_process.py`; a process that had to be stopped is replaced and the good cells run again."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deadline = time.monotonic() + limits.seconds
        self.good: list[tuple[str, str]] = []  # cells to run again in a new process
        self.process: subprocess.Popen | None = None
        self.isolation = 0

    def _start(self) -> None:
        self.others = children()
        self.folder = tempfile.mkdtemp(prefix="submission-")
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        environment = {
            "PATH": os.environ.get("PATH", ""),
            **dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "IPYTHONDIR"), self.folder),
            **{"LANG": "C.UTF-8", "MPLBACKEND": "agg", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            **{"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        }
        script = Path(__file__).with_name("student_process.py")
        numbers = [requests, answers, self.limits.memory, int(self.limits.seconds) + 1, self.limits.file_size]
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-P", str(script), *map(str, numbers)],
            **{"cwd": self.folder, "env": environment, "pass_fds": (requests, answers), "start_new_session": True},
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
        )
        os.close(requests)
        os.close(answers)
        os.set_blocking(self.requests, False)
        began, deadline, self.deadline = time.monotonic(), self.deadline, float("inf")
        self.isolation = self._read(began + 300).get("landlock", 0)
        self.deadline = deadline + time.monotonic() - began  # importing torch does not count as the student's time
        for source, name in self.good:
            self._ask(("run", source, name))

    def _left(self, until: float) -> float:
        if self.deadline <= time.monotonic():
            raise Stopped(f"timed out: the submission has used its {self.limits.seconds:g} seconds")
        if until <= time.monotonic():
            raise Stopped(f"timed out after {self.limits.call_seconds:g} seconds")
        return min(until, self.deadline) - time.monotonic()

    def _write(self, data: bytes, until: float) -> None:
        view = memoryview(len(data).to_bytes(8, "little") + data)
        while view:
            if select.select([], [self.requests], [], self._left(until))[1]:
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(self.requests, view) :]

    def _read_exactly(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            if select.select([self.answers], [], [], self._left(until))[0]:
                chunk = os.read(self.answers, min(size - len(data), 2**20))
                if not chunk:
                    raise Stopped("the code ended the process, or used more memory or time than it may")
                data += chunk
        return bytes(data)

    def _read(self, until: float) -> dict:
        size = int.from_bytes(self._read_exactly(8, until), "little")
        if size > LARGEST_FRAME:
            raise Stopped("the code sent an answer that is too large")
        content = json.loads(self._read_exactly(size, until))
        if not isinstance(content, dict):
            raise ValueError("an answer must be an object")
        return content

    def _ask(self, request: tuple) -> dict:
        until = time.monotonic() + self.limits.call_seconds
        self._left(until)  # raises when the submission's time is over
        try:
            if self.process is None:
                self._start()
                until = time.monotonic() + self.limits.call_seconds
            callbacks: list = []

            class Pickler(pickle.Pickler):
                def persistent_id(self, value: object) -> tuple | None:
                    if isinstance(value, types.FunctionType) and value.__module__ == MODULE:
                        callbacks.append(value)
                        return ("callback", len(callbacks) - 1)
                    return None

            def send(message: tuple) -> None:
                buffer = io.BytesIO()
                Pickler(buffer).dump(message)
                self._write(buffer.getvalue(), until)

            send(request)
            while True:
                content = self._read(until)
                if "callback" not in content:
                    return content
                try:
                    arguments = decode(content["args"]), decode(content["kwargs"])
                    send(("return", callbacks[content["callback"]](*arguments[0], **arguments[1])))
                except Exception as error:
                    send(("raise", ValueError(f"{type(error).__name__}: {error}")))
        except (Stopped, OSError, ValueError, RecursionError, AttributeError) as error:
            self.close()
            raise error if isinstance(error, Stopped) else Stopped(f"the code broke the connection: {error}") from None

    def run(self, source: str, name: str) -> dict:
        try:
            content = self._ask(("run", source, name))
            self.good.append((source, name))
            printed, error = content.get("printed"), content.get("error")
            return {"printed": str(printed), "error": error if error is None else readable(error)}
        except Stopped as stopped:
            return {"printed": "", "error": {"classes": ["Stopped"], "text": str(stopped), "lines": []}}

    def call(self, name: str, args: tuple, kwargs: dict) -> object:
        content = self._ask(("call", name, args, kwargs, (random.getstate(), torch_state())))
        try:
            if "error" in content:
                raise_as_here(readable(content["error"]))
            value = decode(content["value"])
            changed = [None if item is None else decode(item) for item in content["args"]]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            if "error" in content:
                raise
            raise StudentError(f"the result cannot be read: {error}") from None
        for argument, after in zip(args, changed, strict=False):  # a change of an argument is seen by the tests
            if isinstance(argument, list) and isinstance(after, list):
                argument[:] = after
            elif isinstance(argument, dict | set) and type(after) in (dict, set):
                argument.clear()
                argument.update(after)
            elif hasattr(argument, "copy_") and getattr(after, "shape", None) == argument.shape:
                argument.detach().copy_(after)
        return value

    def close(self) -> None:
        """Kills the process and everything it started, and removes its folder."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        while strays := children() - self.others:  # what left the group comes to the grader when its parent ends
            for stray in strays:
                with contextlib.suppress(OSError):
                    os.kill(stray, signal.SIGKILL)
                    os.waitpid(stray, 0)
        self.process = None
        os.close(self.requests)
        os.close(self.answers)
        shutil.rmtree(self.folder, ignore_errors=True)


def children() -> set[int]:
    """Process numbers of this process's children; empty where there is no /proc."""
    found = set()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # children of children come here when their parent ends
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.add(int(status.parent.name))
    return found


def torch_state():
    import torch

    return torch.get_rng_state()


def readable(error: object) -> dict:
    """A described exception with the types it should have; it comes from the student's process."""
    error = error if isinstance(error, dict) else {}
    listed = {key: error.get(key) if isinstance(error.get(key), list) else [] for key in ("classes", "lines")}
    listed = {key: [str(item)[:500] for item in items[:20]] for key, items in listed.items()}
    return {"classes": listed["classes"] or ["Exception"], "text": str(error.get("text", ""))[:4000]} | {
        "lines": listed["lines"]
    }


def raise_as_here(error: dict) -> None:
    where = "\n".join(["", "Your code stopped here:", *error["lines"]]) if error["lines"] else ""
    for name in error["classes"]:
        if name in PLAIN_ERRORS and name not in ("Exception", "AssertionError"):
            with contextlib.suppress(TypeError):  # some need more than a text
                plain = PLAIN_ERRORS[name](error["text"])
                plain.add_note(where)
                raise plain
    raise StudentError(f"{error['classes'][0]}: {error['text']}{where}")


# --- the notebook ---------------------------------------------------------------------------------------------------


def error_output(name: str, text: str, more: str = "") -> NotebookNode:
    return new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}{more}"])


def run_test(source: str, name: str, namespace: dict) -> NotebookNode | None:
    """Runs one test cell; None, or its error as an output."""
    random.seed(0)
    import torch

    torch.manual_seed(0)
    try:
        exec(compile(source, name, "exec"), namespace)
    except AssertionError as error:
        return error_output("AssertionError", str(error))
    except Exception as error:
        notes = "".join(getattr(error, "__notes__", []))
        lines = source.splitlines()
        numbers = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
        line = f"\nThe test was: {lines[numbers[-1] - 1].strip()}" if numbers and numbers[-1] else ""
        return error_output(type(error).__name__, str(error), line + notes)
    return None


def grade_notebook(notebook: NotebookNode, place: SameProcess | OwnProcess) -> None:
    """Fills in the outputs of a rebuilt notebook; a test cell with an error earns nothing (nbgrader's rule).

    Args:
        notebook: the instructor's tests with the student's answers.
        place: where the answers run.
    """
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module

    def stand_in(name: str):
        return lambda *args, **kwargs: place.call(name, args, kwargs)

    try:
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            label = f"<cell {marks(cell).get('grade_id') or number}>"
            if role(cell) == "test":
                stand_ins = {name: stand_in(name) for name in free_names(cell.source, module.__dict__)}
                module.__dict__.update(stand_ins)
                failure = run_test(cell.source, label, module.__dict__)
                for name, function in stand_ins.items():  # what the test defined stays, for the next test
                    if module.__dict__.get(name) is function:
                        del module.__dict__[name]
                cell.outputs = [failure] if failure else []
                continue
            if role(cell) == "given":
                exec(compile(without_magics(cell.source), label, "exec"), module.__dict__)
            content = place.run(cell.source, label)
            if content["printed"]:
                cell.outputs.append(new_output("stream", name="stdout", text=content["printed"]))
            if error := content["error"]:
                cell.outputs.append(error_output(error["classes"][0], error["text"], "\n".join(["", *error["lines"]])))
    finally:
        place.close()
        sys.modules.pop(MODULE, None)


def results(notebook: NotebookNode) -> dict[str, str | None]:
    """The message of each test cell, None where it passed."""
    tests = [cell for cell in notebook.cells if role(cell) == "test"]
    return {marks(c)["grade_id"]: c.outputs[0].traceback[0] if c.outputs else None for c in tests}


def try_answers(source: NotebookNode, answers: dict[str, str], seconds: float = 5) -> dict[str, str | None]:
    """`results` for the instructor's notebook with some answers replaced, by grade id, run in this process."""
    notebook = copy.deepcopy(source)
    for cell in notebook.cells:
        cell.source = answers.get(marks(cell).get("grade_id"), cell.source)
    grade_notebook(notebook, SameProcess(Limits(call_seconds=seconds)))
    return results(notebook)

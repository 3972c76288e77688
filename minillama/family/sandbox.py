"""Running code that a model wrote (chapter 19).

Such code loops for ever, eats the memory, prints without end and, once it is rewarded for passing, learns to pretend.
So it runs in a process of its own with limits, and it never sees what it is compared with: it is given the arguments of
the tests, sends back its results as text, and the comparison is made here.

Does: limits on time, memory, files, processes and the length of an answer; an empty environment and folder; one fresh
    process for each candidate, forked from a small server in milliseconds; a user without rights if we are root.
Does not: cut off the network, or hide files that everybody may read. It is a guard against accidents and cheating, not
    against an attacker: run foreign code in a container or a virtual machine without a network. Linux; elsewhere some
    limits are missing (macOS) or everything is (Windows).
Source: Chen et al. 2021, section 2.3, for the need; Roziere et al. 2023, section 2.5, for running tests to choose data.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one candidate may use.

    Args:
        seconds: of wall time for all tests together; processor time is limited to a second more.
        megabytes: of address space.
        answer_bytes: of results.
    """

    seconds: float = 2.0
    megabytes: int = 256
    answer_bytes: int = 65_536

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, got {value!r}")


@dataclass(frozen=True)
class Case:
    """One test: what a function is given, and what it must return; both as JSON knows them."""

    arguments: tuple
    expected: Any


@dataclass(frozen=True)
class Verdict:
    """What came of a candidate.

    Attributes:
        passed: whether all results were right.
        reason: "passed", "wrong result", "timeout", "no results" (it ended or was killed before it had answered), "too
            long", or the name of an exception.
    """

    passed: bool
    reason: str


# The server: reads a job a line, forks, gives the child its limits, collects what it sends. No expected result is here.
SERVER = r"""
import gc, json, os, resource, select, signal, sys, time

def child(job, out):
    os.setsid()  # so that it can be killed together with all that it starts
    limits = job["limits"]
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, out)
    os.closerange(out + 1, 256)
    if os.geteuid() == 0:  # root has no limit on processes, and may write everywhere
        try:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        except OSError:
            pass
    memory, cpu = limits["megabytes"] * 2**20, int(limits["seconds"]) + 1
    for name, value in (("AS", memory), ("CPU", cpu), ("FSIZE", 0), ("NPROC", 0), ("CORE", 0), ("NOFILE", 16)):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
    dumps, write, leave = json.dumps, os.write, os._exit
    try:
        names = {"__name__": "candidate"}
        exec(compile(job["source"], "candidate", "exec"), names)
        function = names[job["function"]]
        # each case has its own copy of its arguments, read from text
        answer = {"results": [dumps(function(*json.loads(case))) for case in job["cases"]]}
    except BaseException as error:
        answer = {"error": type(error).__name__}
    text = dumps(answer).encode()
    while text:
        text = text[write(out, text):]
    leave(0)

def serve(job):
    limits = job["limits"]
    read, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            child(job, out)
        finally:
            os._exit(1)
    os.close(out)
    text, status, end = b"", "ended", time.monotonic() + limits["seconds"]
    while True:
        ready = select.select([read], [], [], max(0.0, end - time.monotonic()))[0]
        if not ready:
            status = "timeout"
            break
        part = os.read(read, 65536)
        if not part:
            break
        text += part
        if len(text) > limits["answer_bytes"]:
            status = "too long"
            break
    os.close(read)
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)
    return {"status": status, "text": text.decode("utf-8", "replace") if status == "ended" else ""}

gc.freeze()
for line in sys.stdin:
    sys.stdout.write(json.dumps(serve(json.loads(line))) + "\n")
    sys.stdout.flush()
"""


class Sandbox:
    """A place to run candidates in, to be used in a `with` statement.

    Args:
        limits: for each candidate.

    Raises:
        OSError: on a system that cannot fork (Windows).
    """

    def __init__(self, limits: Limits = Limits()):
        if not hasattr(os, "fork"):
            raise OSError(f"the sandbox needs fork and resource limits, which {sys.platform} lacks; use Linux or WSL")
        self.limits = limits
        self._folder: tempfile.TemporaryDirectory | None = None
        self._server: subprocess.Popen | None = None

    def __enter__(self) -> "Sandbox":
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._folder.cleanup()
        self._folder = None

    def test(self, source: str, function: str, cases: Sequence[Case]) -> Verdict:
        """Run a candidate on the arguments of all cases, and compare its results with what is expected.

        A result must be of the same type as JSON writes it: `True` is not 1, 1.0 is not 1; a tuple is a list.

        Args:
            source: the candidate's text.
            function: name of what it must define.
            cases: the tests; at least one, or everything would pass.

        Raises:
            ValueError: without a case.
            RuntimeError: outside a `with` statement.
        """
        if not cases:
            raise ValueError("expected at least one case: a candidate without tests would always pass")
        if self._folder is None:
            raise RuntimeError("the sandbox is closed; use it inside `with Sandbox() as sandbox:`")
        try:
            source.encode()
        except UnicodeEncodeError:
            return Verdict(False, "UnicodeEncodeError")
        job = {"source": source, "function": function, "cases": [json.dumps(list(case.arguments)) for case in cases]}
        found = self._ask({**job, "limits": asdict(self.limits)})
        if found["status"] != "ended":
            return Verdict(False, found["status"])
        try:
            answer = json.loads(found["text"])
            if "error" in answer:
                return Verdict(False, str(answer["error"]))
            results = list(answer["results"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return Verdict(False, "no results")
        right = results == [json.dumps(case.expected) for case in cases]  # texts: nothing of the candidate's runs here
        return Verdict(right, "passed" if right else "wrong result")

    def _ask(self, job: dict) -> dict:
        """One job's answer; if the server does not answer, the candidate counts as failed and a new one is started."""
        lost = {"status": "ended", "text": ""}
        if self._server is None:
            self._start()
        try:
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            end, text = time.monotonic() + self.limits.seconds + 5, ""
            while not text.endswith("\n"):
                ready = select.select([self._server.stdout], [], [], max(0.0, end - time.monotonic()))[0]
                part = os.read(self._server.stdout.fileno(), 2**20).decode() if ready else ""
                if not part:
                    self._stop()
                    return lost
                text += part
            return json.loads(text)
        except (BrokenPipeError, ValueError):
            self._stop()
            return lost

    def _start(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SERVER],  # no user's folder, no site packages, no PYTHON variables
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"LC_ALL": "C.UTF-8"},
            cwd=self._folder.name,
            start_new_session=True,
        )

    def _stop(self) -> None:
        if self._server is not None:
            try:
                os.killpg(self._server.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            for pipe in (self._server.stdin, self._server.stdout):
                try:
                    pipe.close()
                except BrokenPipeError:  # what was still to be written is lost with the server
                    pass
            self._server.wait()
            self._server = None

"""The process in which a student's code runs, apart from the tests.

Started by `grading.py` with two pipes. A request is a pickle from the grader: run a cell, or call one of the student's
functions. An answer is JSON with plain values only (numbers, text, bytes, lists, tuples, dicts, sets, tensors), so that
nothing of the student's, no method and no `__eq__`, reaches the process in which the tests compare.

Does: memory, file-size, processor and process limits; on Linux, Landlock (no files but its own, the library's and the
system's; no network by TCP; no signals to other processes). Does not: hide the machine's world-readable system files,
limit the number of files written, or guard anything where the kernel has no Landlock (macOS): use a container there.
Source: Linux `Documentation/userspace-api/landlock.rst`.
"""

import base64
import builtins
import contextlib
import ctypes
import io
import json
import linecache
import os
import pickle
import random
import re
import resource
import struct
import sys
import traceback
import types
from pathlib import Path

MODULE = "assignment"
LONGEST_OUTPUT = 20_000  # characters of a cell's prints that are kept
LARGEST_FRAME = 64 * 2**20  # bytes of one answer

# --- values over the pipe -------------------------------------------------------------------------------------------


def encode(value: object) -> object:
    """A JSON value for a plain Python value, tensor or array; TypeError for anything else."""
    import numpy as np
    import torch

    if value is None or isinstance(value, bool | str):
        return value if value is None or isinstance(value, bool) else {"str": str.__str__(value)}
    if isinstance(value, int | np.integer):
        return {"int": str(int(value))}
    if isinstance(value, float | np.floating):
        return {"float": float(value).hex()}
    if isinstance(value, bytes | bytearray):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in kind.__iter__(value)]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in dict.items(value)]}
    if isinstance(value, np.ndarray):
        return {"array": encode(torch.from_numpy(np.ascontiguousarray(value)))}
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        data = base64.b64encode(bytes(flat.view(torch.uint8).numpy())) if flat.numel() else b""
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape), data.decode()]}
    raise TypeError(
        f"a function of the problem set returned a {type(value).__name__}; return numbers, text, lists, tuples, "
        "dicts, sets or tensors"
    )


def decode(value: object) -> object:
    """The value that `encode` was given; ValueError or TypeError for anything that `encode` does not write."""
    import torch

    if value is None or isinstance(value, bool):
        return value
    ((kind, content),) = value.items()
    if kind == "str":
        return str(content)
    if kind == "int":
        return int(content)
    if kind == "float":
        return float.fromhex(content)
    if kind == "complex":
        return complex(*map(float.fromhex, content))
    if kind == "bytes":
        return base64.b64decode(content)
    if kind in ("list", "tuple", "set", "frozenset"):
        return getattr(builtins, kind)([decode(item) for item in content])
    if kind == "dict":
        return {decode(key): decode(item) for key, item in content}
    if kind == "array":
        return decode(content).numpy()
    if kind == "tensor":
        name, shape, data = content
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{name} is no type of a tensor")
        raw = bytearray(base64.b64decode(data))
        return torch.frombuffer(raw, dtype=dtype).reshape(shape) if raw else torch.empty(shape, dtype=dtype)
    raise ValueError(f"unknown kind of value: {kind}")


def write_frame(pipe: int, data: bytes) -> None:
    data = struct.pack("<Q", len(data)) + data
    while data:
        data = data[os.write(pipe, data) :]


def read_exactly(pipe: int, size: int) -> bytes:
    chunks = []
    while size:
        chunk = os.read(pipe, min(size, 2**20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def read_frame(pipe: int) -> bytes:
    return read_exactly(pipe, struct.unpack("<Q", read_exactly(pipe, 8))[0])


# --- limits ---------------------------------------------------------------------------------------------------------

FILES_READ = 1 | 4 | 8  # execute, read a file, list a folder
FILES_ALL = (1 << 16) - 1  # every right of Landlock's fifth version, truncating and device control included
FILES_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}


def lock(readable: list[Path], writable: list[Path]) -> int:
    """Confines this process and its children to files below the folders; returns Landlock's version, 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    create, add, restrict = 444, 445, 446  # system calls, the same on every architecture
    version = libc.syscall(create, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return 0
    handled = FILES_BY_VERSION.get(version, FILES_ALL)
    # files; TCP (bind, connect) since version 4; abstract sockets and signals since 6
    rules = struct.pack("<QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = libc.syscall(create, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return 0
    for folders, rights in ((readable, FILES_READ), (writable, handled)):
        for folder in folders:
            if not folder.exists():
                continue
            opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            only = rights if folder.is_dir() else rights & (1 | 2 | 4 | (1 << 14))
            rule = struct.pack("<Qi", only & handled, opened)
            if libc.syscall(add, ruleset, ctypes.c_int(1), rule, ctypes.c_uint32(0)):
                raise OSError(ctypes.get_errno(), f"Landlock refused the rule for {folder}")
            os.close(opened)
    if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(restrict, ruleset, ctypes.c_uint32(0)):  # 38: no new privileges
        raise OSError(ctypes.get_errno(), "Landlock refused to confine the process")
    os.close(ruleset)
    return version


def tasks_of_this_user() -> int:
    """Processes and threads, for the limit on new ones; 0 where there is no /proc."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, TypeError):
            text = status.read_text()
            if int(re.search(r"^Uid:\s+(\d+)", text, re.M)[1]) == os.getuid():
                total += int(re.search(r"^Threads:\s+(\d+)", text, re.M)[1])
    return total


def limit(memory: int, seconds: int, file_size: int) -> None:
    """Memory beyond what Python and torch take already, processor time, size of a file, processes, no core files."""

    def at_most(kind: int, value: int) -> None:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some
            resource.setrlimit(kind, (value, value))

    statm = Path("/proc/self/statm")
    taken = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 2**32
    at_most(resource.RLIMIT_AS, taken + memory)
    at_most(resource.RLIMIT_CPU, seconds)
    at_most(resource.RLIMIT_FSIZE, file_size)
    at_most(resource.RLIMIT_CORE, 0)
    if running := tasks_of_this_user():
        at_most(resource.RLIMIT_NPROC, running + 64)


# --- the student's notebook -----------------------------------------------------------------------------------------


class Kept(io.StringIO):
    """What a cell prints, the first `LONGEST_OUTPUT` characters."""

    def write(self, text: str) -> int:
        room = LONGEST_OUTPUT - self.tell()
        super().write(str(text)[: max(room, 0)])
        return len(text)


def without_magics(source: str) -> str:
    """Lines that begin with % or ! do not run in grading; the rest keeps its line numbers."""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def described(error: BaseException, name: str) -> dict:
    """An exception as text: the names of its classes, its message, the lines of the student's code it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<cell ")]
    try:
        text = str(error)
    except BaseException:
        text = "(an exception whose text could not be made)"
    if isinstance(error, SyntaxError) and not frames:
        text = f"{text}: {(error.text or '').strip()}"
    return {
        "classes": [kind.__name__ for kind in type(error).__mro__],
        "text": text[:LONGEST_OUTPUT],
        "lines": [f"  in {f.name}, line {f.lineno}: {f.line}" for f in frames[-8:]],
    }


class Session:
    """The names that a notebook has defined so far, and what the grader may ask of them."""

    def __init__(self, requests: int, answers: int) -> None:
        self.requests, self.answers = requests, answers
        self.module = types.ModuleType(MODULE)
        sys.modules[MODULE] = self.module

    def answer(self, content: dict) -> None:
        data = json.dumps(content).encode()
        if len(data) > LARGEST_FRAME:
            data = json.dumps({"error": {"classes": ["ValueError"], "text": "the result is too large", "lines": []}})
            data = data.encode()
        write_frame(self.answers, data)

    def receive(self) -> tuple:
        session = self

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, handle: tuple) -> object:
                return lambda *args, **kwargs: session.call_back(handle[1], args, kwargs)

        return Unpickler(io.BytesIO(read_frame(self.requests))).load()

    def call_back(self, number: int, args: tuple, kwargs: dict) -> object:
        """A function that the tests passed as an argument runs in the grader."""
        self.answer({"callback": number, "args": encode(args), "kwargs": encode(kwargs)})
        kind, value = self.receive()
        if kind == "raise":
            raise value
        return value

    def run(self, source: str, name: str) -> dict:
        source = without_magics(source)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        printed = Kept()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                exec(compile(source, name, "exec"), self.module.__dict__)
                error = None
            except BaseException as raised:
                error = described(raised, name)
        return {"printed": printed.getvalue(), "error": error}

    def call(self, name: str, args: tuple, kwargs: dict, state: tuple) -> dict:
        import torch

        random.setstate(state[0])
        torch.set_rng_state(state[1])
        with contextlib.redirect_stdout(Kept()), contextlib.redirect_stderr(Kept()):
            try:
                if name not in self.module.__dict__:
                    raise NameError(f"the notebook defines no function {name}; has it been renamed?")
                value = encode(self.module.__dict__[name](*args, **kwargs))
                changed = [encode(a) if isinstance(a, list | dict | set | torch.Tensor) else None for a in args]
                return {"value": value, "args": changed}
            except BaseException as raised:
                return {"error": described(raised, name)}

    def serve(self) -> None:
        while True:
            kind, *rest = self.receive()
            try:
                self.answer(self.run(*rest) if kind == "run" else self.call(*rest))
            except TypeError as error:  # args that cannot be sent back
                self.answer({"error": described(error, "")})


def main() -> None:
    requests, answers, memory, seconds, file_size = map(int, sys.argv[1:6])
    import torch

    import minillama

    torch.set_num_threads(1)
    package = Path(minillama.__file__).resolve().parent
    data = minillama.data_path("page.txt").resolve().parent
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/sys", "/proc/self", "/proc/cpuinfo", "/proc/meminfo"]
    readable = {Path(folder) for folder in [*system, "/dev/urandom", "/dev/random", "/dev/zero"]}
    readable |= {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)} | {package, data}
    version = lock(sorted(readable), [Path.cwd(), Path("/dev/null")])
    limit(memory, seconds, file_size)
    session = Session(requests, answers)
    session.answer({"landlock": version})
    with contextlib.suppress(EOFError):
        session.serve()


if __name__ == "__main__":
    main()

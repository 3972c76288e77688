"""Loading at the true 7B shape: seconds, memory and tokens per second, in both formats and every precision.

Run `python benchmarks/real_weights.py` (15 to 20 minutes; needs the extra `parity`, Linux, 27 GB of disk and 16 GB of
memory), or `--shape tenth` for a model of a tenth of the size in a minute. `--folder` says where the files go; they
are deleted at the end unless `--keep` is given.

How it is measured: the weights are random (speed and memory do not depend on them; the quality of 7B weights in 8 or
4 bits is nothing that this benchmark can say), in the files that Meta and Hugging Face publish. Every line is a fresh
process. Its anonymous memory (RssAnon: what the system cannot take back; mapped files are not in it) is looked at
every 20 milliseconds from outside. `ready` is the call that loads, without the imports; `first` is a forward pass of
8 tokens, which for a mapped model includes reading the file. Loading in bfloat16 alternates with `transformers`, and
medians count. Then int8 and int4 load and run inside a memory control group of 9 and 6 GiB (root only), where the
page cache counts too; the files are dropped from the cache before.
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from minillama.family.export import hf_config, hf_name
from minillama.family.standins import meta_params
from minillama.model.assembly import skeleton
from minillama.model.config import PRESETS, ModelConfig

SHAPES = {
    "7b": PRESETS["llama-2-7b"],
    "tenth": replace(PRESETS["llama-2-7b"], dim=2048, n_layers=12, n_heads=16, n_kv_heads=16, vocab_size=32000),
}
PROMPT = list(range(1, 9))
GIB = 2**30
WAYS = {"Hugging Face": ("ours", "hf"), "transformers": ("transformers", "hf"), "Meta": ("ours", "meta")}
PARTS = ("rounds", "bfloat16", "int8", "int4", "group-int8", "group-int4")
LIMITS = {"int8": 9 * GIB, "int4": 6 * GIB}


def write_files(config: ModelConfig, folder: Path) -> None:
    """Both formats; safetensors are written as a header and bytes, so that no more than a matrix is in memory."""
    shapes = {name: tuple(weight.shape) for name, weight in skeleton(config).state_dict().items()}
    numbers = (0.02 * torch.randn(1 << 26, generator=torch.Generator().manual_seed(0))).bfloat16()

    def values(name: str) -> torch.Tensor:
        shape = shapes[name]
        count = torch.Size(shape).numel()
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        start = hash_of(name) % 1000
        copies = (count + start - 1) // len(numbers) + 1  # 1 for all but the embedding and the head
        flat = numbers if copies == 1 else numbers.repeat(copies)
        return flat[start : start + count].view(shape)

    def hash_of(name: str) -> int:
        return sum(ord(character) * (i + 1) for i, character in enumerate(name))

    hf, meta = folder / "hf", folder / "meta"
    for place in (hf, meta):
        place.mkdir(parents=True)
    names, weight_map = list(shapes), {}
    halves = [names[: 3 * len(names) // 4], names[3 * len(names) // 4 :]]  # 9.98 and 3.5 GB, as published
    for number, own in enumerate(halves, 1):
        file = hf / f"model-{number:05d}-of-{len(halves):05d}.safetensors"
        header, end = {}, 0
        for name in own:
            start, end = end, end + 2 * torch.Size(shapes[name]).numel()
            header[hf_name(name)] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [start, end]}
            weight_map[hf_name(name)] = file.name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(file, "wb") as opened:
            opened.write(struct.pack("<Q", len(text)) + text)
            for name in own:
                opened.write(values(name).view(torch.uint8).numpy().data)
    (hf / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": end}, "weight_map": weight_map})
    )
    (hf / "config.json").write_text(json.dumps(hf_config(config)))

    from minillama.model.checkpoints import read_hf

    _, pieces = read_hf(hf)  # mapped, so that torch.save streams; random rows need no other order
    torch.serialization.set_crc32_options(False)  # nobody looks at the archive's sums
    torch.save({name: pieces[name][0].data for name in names}, meta / "consolidated.00.pth")
    (meta / "params.json").write_text(json.dumps(meta_params(config)))


def drop_from_cache(folder: Path) -> None:
    """Tell the system that nobody needs the files' pages any more."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def anonymous(pid: int) -> int:
    """Bytes of a process that no file stands behind."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def memory_group(limit: int) -> Path | None:
    """A new control group below this process's own, limited to so many bytes; None if that is not permitted."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, inside = line.split(":", 2)
        if "memory" in controllers.split(","):
            parent, name = Path("/sys/fs/cgroup/memory") / inside.lstrip("/"), "memory.limit_in_bytes"
        elif controllers == "" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            parent, name = Path("/sys/fs/cgroup") / inside.lstrip("/"), "memory.max"
        else:
            continue
        group = parent / f"minillama-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
            return group
        except OSError as error:
            print(f"  no memory group: {error}")
            if group.exists():
                group.rmdir()
    return None


def measure(who: str, folder: Path, precision: str, new_tokens: int, threads: int, group: Path | None = None) -> dict:
    """Run `work` in a fresh process and watch its anonymous memory."""
    command = [sys.executable, __file__, "--work", who, "--folder", str(folder), "--precision", precision]
    command += ["--new-tokens", str(new_tokens), "--threads", str(threads)]
    if group is not None:  # enter the group first, so that everything counts
        command = ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.02)
    out, error = process.communicate()
    if process.returncode:
        return {"failed": f"exit {process.returncode}: {error.strip().splitlines()[-1:]}"}
    return json.loads(out.splitlines()[-1]) | {"peak": peak}


def work(who: str, folder: Path, precision: str, new_tokens: int, threads: int) -> None:
    """In the fresh process: load, run, print what was measured as JSON."""
    torch.set_num_threads(threads)
    if who == "transformers":
        from transformers import LlamaForCausalLM

        start = time.perf_counter()
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    else:
        from minillama.family.loading import load
        from minillama.model.generation import stream

        start = time.perf_counter()
        model = load(folder, precision, progress=False, force=True)
    ready = time.perf_counter() - start
    loaded = anonymous(os.getpid())
    result = {"ready": ready, "loaded": loaded}
    if new_tokens:
        with torch.inference_mode():
            start = time.perf_counter()
            model(torch.tensor([PROMPT]))
            result["first"] = time.perf_counter() - start
            if who == "transformers":
                ids = torch.tensor([PROMPT])
                options = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
                model.generate(ids, max_new_tokens=2, min_new_tokens=2, **options)
                start = time.perf_counter()
                model.generate(ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **options)
                result["speed"] = new_tokens / (time.perf_counter() - start)  # the prompt included
            else:
                list(stream(model, PROMPT, 2, temperature=0))
                start = time.perf_counter()
                list(stream(model, PROMPT, new_tokens, temperature=0))
                result["speed"] = new_tokens / (time.perf_counter() - start)
    print(json.dumps(result))


def report(name: str, result: dict) -> None:
    """One line of the table."""
    if "failed" in result:
        print(f"  {name:<34} {result['failed']}", flush=True)
        return
    line = f"  {name:<34} ready {result['ready']:6.1f} s   anonymous peak {result['peak'] / GIB:5.2f} GiB"
    if "first" in result:
        line += f"   first {result['first']:6.1f} s   {result['speed']:5.2f} tokens/s"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a new folder for 27 GB (default: a temporary one)")
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--keep", action="store_true", help="keep the files, and use them if they are there")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of loading in bfloat16")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--work", choices=["ours", "transformers"], help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="file", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.work:
        work(a.work, a.folder, a.precision, a.new_tokens, a.threads)
        return
    config = SHAPES[a.shape]
    folder = a.folder or Path(tempfile.mkdtemp())
    needed = 4 * config.n_parameters() + GIB
    if not (folder / "meta" / "params.json").exists():
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        if free < needed:
            sys.exit(f"{folder}: {free / 1e9:.0f} GB are free and {needed / 1e9:.0f} GB are needed; pass --folder")
        start = time.perf_counter()
        write_files(config, folder)
        seconds = time.perf_counter() - start
        print(f"{config.n_parameters():,} random parameters written twice in {seconds:.0f} s", flush=True)
    try:
        run(folder, a)
    finally:
        if not a.keep:
            shutil.rmtree(folder)


def run(folder: Path, a: argparse.Namespace) -> None:
    """The measurements asked for, in their order."""
    for part in a.parts:
        if part == "rounds":
            loading_in_turns(folder, a)
        elif part.startswith("group-"):
            in_a_group(folder, part.removeprefix("group-"), a)
        else:
            for name, (who, where) in WAYS.items():
                if part == "bfloat16" or who == "ours":
                    precision = "file" if part == "bfloat16" else part
                    result = measure(who, folder / where, precision, a.new_tokens, a.threads)
                    report(f"{name}, {part}", result)


def loading_in_turns(folder: Path, a: argparse.Namespace) -> None:
    """Loading alone in bfloat16, against `transformers`."""
    print(f"bfloat16, mapped: {a.repeats} rounds in turns, medians of loading alone; {a.threads} threads")
    rounds: dict[str, list[dict]] = {name: [] for name in WAYS}
    for _ in range(a.repeats):
        for name, (who, where) in WAYS.items():
            rounds[name].append(measure(who, folder / where, "file", 0, a.threads))
    for name, results in rounds.items():
        if failed := [result["failed"] for result in results if "failed" in result]:
            print(f"  {name:<34} {failed[0]}")
            continue
        seconds = [result["ready"] for result in results]
        peak = max(result["peak"] for result in results)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(
            f"  {name:<34} ready {statistics.median(seconds):6.2f} s ({spread})   peak {peak / GIB:5.2f} GiB",
            flush=True,
        )


def in_a_group(folder: Path, precision: str, a: argparse.Namespace) -> None:
    """Load and run under a limit for everything, page cache included; the files start on the disk."""
    limit = LIMITS[precision]
    group = memory_group(limit)
    if group is None:
        print(f"  {precision}: a control group needs root and a writable /sys/fs/cgroup; not run")
        return
    try:
        drop_from_cache(folder)
        result = measure("ours", folder / "hf", precision, a.new_tokens, a.threads, group)
        report(f"Hugging Face, {precision}, in {limit / GIB:.0f} GiB", result)
        for counter in ("memory.oom_control", "memory.failcnt", "memory.events"):
            if (group / counter).exists():
                print(f"    {counter}: {' '.join((group / counter).read_text().split())}", flush=True)
    finally:
        group.rmdir()


if __name__ == "__main__":
    main()

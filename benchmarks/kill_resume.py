"""Does a run that is killed at a random moment end as if it had never been killed? To the last bit?

Run `python benchmarks/kill_resume.py` (ten kills, about three minutes; `--kills 3` for fewer). One run goes through
without a break. Then others are killed with SIGKILL, which no program can catch, at a random moment of a random step,
some of them in the middle of writing a checkpoint, and are started again. Every loss they print, and at the end every
weight, both of Adam's averages, the random numbers and the position in the data must equal those of the first run.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from minillama.model.config import PRESETS
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints, read_state
from minillama.pretraining.shards import Batches
from minillama.pretraining.trainer import StepRecord, TrainConfig, Trainer

Losses = dict[int, str]  # step to loss, written so that every bit shows


def text() -> np.ndarray:
    """A row of tokens with something to learn: every token is followed by one of four."""
    generator = np.random.default_rng(0)
    row = [0]
    for choice in generator.integers(0, 4, 6000):
        row.append((row[-1] * 7 + int(choice)) % PRESETS["nano"].vocab_size)
    return np.array(row)


def run(folder: Path, steps: int, on_step: Callable[[StepRecord], None] | None = None) -> Losses:
    """Train in a folder, from its last checkpoint if it has one, to the end; or to Ctrl-C."""
    config = TrainConfig(steps, batch_size=4, context=32, peak_lr=3e-3, warmup_steps=steps // 5, save_every=3)
    batches = Batches(text(), config.batch_size, config.context)
    if checkpoints(folder):
        trainer = Trainer.resume(folder, batches, on_step)
    else:
        trainer = Trainer(Llama(PRESETS["nano"]), batches, config, folder, on_step)
    return {record.step: record.loss.hex() for record in trainer.train(progress=False)}


def run_until(signal_number: int, folder: Path, steps: int, step: int, delay: float = 0.0) -> tuple[Losses, int]:
    """Train in a process of its own and send it a signal after a step and a delay; what it printed, and its status."""
    command = [sys.executable, __file__, "--worker", str(folder), "--steps", str(steps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        losses = {}
        for line in process.stdout:
            number, loss = line.split()
            losses[int(number)] = loss
            if int(number) == step:
                time.sleep(delay)
                process.send_signal(signal_number)
    return losses, process.returncode


def differences(folder: Path, reference: Path) -> list[str]:
    """What differs between the last checkpoints of two runs: names of tensors and numbers."""
    ours, theirs = checkpoints(folder)[-1], checkpoints(reference)[-1]
    names = [] if read_state(ours) == read_state(theirs) else ["state.json"]
    for file in ("model.safetensors", "training.safetensors"):
        a, b = load_file(ours / file), load_file(theirs / file)
        names += sorted(a.keys() ^ b.keys())
        names += [name for name in a.keys() & b.keys() if not torch.equal(a[name], b[name])]
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; by default they differ every time")
    parser.add_argument("--worker", type=Path, help="used by this program itself: train in this folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.worker:
        run(arguments.worker, arguments.steps, lambda r: print(r.step, r.loss.hex(), flush=True))
        return 0

    moments, wrong = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        reference = Path(temporary, "unbroken")
        seconds: list[float] = []
        expected = run(reference, arguments.steps, lambda record: seconds.append(record.seconds))
        print("killed after step   while saving   went on from   losses, weights, averages, position")
        for number in range(arguments.kills):
            folder = Path(temporary, str(number))
            step = moments.randrange(1, arguments.steps - 20)  # the kill must come before the end
            before, status = run_until(
                signal.SIGKILL, folder, arguments.steps, step, moments.uniform(0, 4 * np.median(seconds))
            )
            if status != -signal.SIGKILL:
                raise SystemExit(f"the run ended with status {status} before it could be killed; try again")
            saving = "yes" if list(folder.glob(".step-*.tmp")) else "no"
            start = int(checkpoints(folder)[-1].name.removeprefix("step-")) if checkpoints(folder) else 0
            after = run(folder, arguments.steps)
            same = before.items() <= expected.items() and after.items() <= expected.items()
            differ = differences(folder, reference) + ([] if same else ["the losses"])
            wrong += bool(differ)
            result = f"differ: {', '.join(differ)}" if differ else "equal"
            print(f"{max(before):17}   {saving:>12}   {start:12}   {result}")
    print(f"{arguments.kills - wrong} of {arguments.kills} killed runs ended equal to the unbroken one, bit for bit")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

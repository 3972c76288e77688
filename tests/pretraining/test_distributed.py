"""Two gloo processes against one: the same losses, a half of the memory, and checkpoints that go both ways.

This very file, run as a script, forks the two and tells them by `torchrun`'s variables who they are (torchrun itself
would import PyTorch three times, most of the time of this test). They write what they saw to JSON files, which the
tests read.

Tolerance: the processes add the same float32 numbers in another order. A sum of some thousand terms then differs in
the seventh digit, and Adam carries that on from step to step; 1e-5 of the loss leaves room for both.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
import torch.nn.functional as F

from minillama.model.checkpoints import CheckpointError
from minillama.model.config import PRESETS
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints
from minillama.pretraining.distributed import (
    by_first,
    clip_gradients,
    gather,
    load_distributed,
    mean_over_processes,
    save_distributed,
    setup,
    shard,
    teardown,
    whole_model,
)
from minillama.pretraining.distributed_trainer import DistributedTrainer
from minillama.pretraining.shards import Batches
from minillama.pretraining.trainer import StepRecord, TrainConfig, Trainer

CONFIG = PRESETS["nano"]
STEPS, MIDDLE, TOGETHER, CONTEXT = 4, 2, 4, 32  # TOGETHER sequences per step over all processes
TOLERANCE = 1e-5
RECIPE = TrainConfig(6, TOGETHER, CONTEXT, peak_lr=3e-3, warmup_steps=2, accumulate=2, eval_every=2)
STOP = 3
ROW = (np.cumsum(np.random.default_rng(0).integers(0, 5, 6000)) % CONFIG.vocab_size).astype(np.int64)


def make_batches(rank: int = 0, world_size: int = 1, together: int = TOGETHER) -> Batches:
    return Batches(ROW, together // world_size, CONTEXT, seed=1, rank=rank, world_size=world_size)


def make_optimizer(model: Llama) -> torch.optim.AdamW:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), eps=1e-5)


def train_step(model: Llama, optimizer: torch.optim.Optimizer, batches: Batches) -> tuple[float, float]:
    """Loss over all processes before the update, norm of the gradient before clipping."""
    tokens = next(batches)
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    norm = clip_gradients(model, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return mean_over_processes(loss), norm


def train(model, optimizer, batches, steps: range, folder: Path | None = None) -> list[tuple[float, float]]:
    records = []
    for step in steps:
        records.append(train_step(model, optimizer, batches))
        if folder and step == MIDDLE:
            save_distributed(folder, step, model, optimizer, {"batches": batches.state_dict()})
    return records


def resume(checkpoint: Path, model: Llama, batches: Batches) -> list[tuple[float, float]]:
    optimizer = make_optimizer(model)
    state = load_distributed(checkpoint, model, optimizer)
    batches.load_state_dict(state["batches"])
    return train(model, optimizer, batches, range(state["step"] + 1, STEPS + 1))


def numbers(records: list[StepRecord]) -> list[tuple[float, float]]:
    return [(record.loss, record.grad_norm) for record in records]


# --- what each of the two processes does ----------------------------------------------------------------------------


def work(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    mesh = setup("cpu")
    rank, size = mesh.get_local_rank(), mesh.size()
    seen = {"size": size}

    model = shard(Llama(CONFIG, seed=0), mesh)
    optimizer = make_optimizer(model)
    seen["records"] = train(model, optimizer, make_batches(rank, size), range(1, STEPS + 1), folder / "of-two")
    # Adam's count of steps is one number per parameter; it is not cut
    kept = [p.to_local() for p in model.parameters()]
    kept += [v.to_local() for state in optimizer.state.values() for v in state.values() if v.dim()]
    seen["numbers kept"] = sum(tensor.numel() for tensor in kept)
    weights = gather(model)
    seen["gathered"] = len(weights)
    if rank == 0:
        torch.save(weights, folder / "weights.pt")

    middle = f"step-{MIDDLE:08d}"
    fresh = shard(Llama(CONFIG, seed=99), mesh)
    seen["two on two"] = resume(folder / "of-two" / middle, fresh, make_batches(rank, size))
    with torch.device("meta"):
        empty = Llama(CONFIG)
    shard(empty, mesh)
    seen["one on two"] = resume(folder / "of-one" / middle, empty, make_batches(rank, size))

    narrow = shard(Llama(CONFIG, seed=0), mesh, torch.bfloat16)
    seen["bfloat16"] = train(narrow, make_optimizer(narrow), make_batches(rank, size), range(1, 2))
    seen["dtypes"] = sorted({str(p.dtype) for p in narrow.parameters()})

    looks = []
    trainer = DistributedTrainer(
        Llama(CONFIG, seed=0),
        make_batches(rank, size),
        RECIPE,
        folder / "trainer-of-two",
        lambda record: trainer.stop() if (record.step, rank) == (STOP, 1) else None,  # only one of the two is asked
        lambda trainer: looks.append((trainer.step, trainer.mean(rank))),
        device=mesh,
    )
    seen["trainer"] = numbers(trainer.train(progress=True))
    trainer = DistributedTrainer.resume(folder / "trainer-of-two", make_batches(rank, size), device=mesh)
    seen["trainer, two on two"] = numbers(trainer.train(progress=False))
    seen["looks"] = looks
    if (whole := whole_model(trainer.model)) is not None:
        seen["logits"] = whole(torch.arange(9)[None]).flatten().tolist()
    trainer = DistributedTrainer.resume(folder / "trainer-of-one", make_batches(rank, size), device=mesh)
    seen["trainer, one on two"] = numbers(trainer.train(progress=False))

    by_first(lambda: (time.sleep(0.3), (folder / f"by-{rank}").touch()))
    seen["written"] = [path.name for path in folder.glob("by-*")]
    try:
        by_first(lambda: 1 / 0)
    except (ZeroDivisionError, SystemExit) as end:
        seen["failed"] = repr(end)

    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))
    teardown()


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, list[tuple[float, float]], Llama]:
    """The run in one process without any group: its folder, its records, the trained model."""
    folder = tmp_path_factory.mktemp("distributed")
    model = Llama(CONFIG, seed=0)
    records = train(model, make_optimizer(model), make_batches(), range(1, STEPS + 1), folder / "of-one")
    return folder, records, model


@pytest.fixture(scope="module")
def trained_alone(alone) -> Trainer:
    """A whole run of one `Trainer`; another one has stopped in the middle of it."""
    Trainer(Llama(CONFIG, seed=0), make_batches(), RECIPE, alone[0] / "trainer-of-one").train(STOP, progress=False)
    trainer = Trainer(Llama(CONFIG, seed=0), make_batches(), RECIPE)
    trainer.records = trainer.train(progress=False)
    return trainer


@pytest.fixture(scope="module")
def two(alone, trained_alone) -> list[dict]:
    """What the two processes saw."""
    folder = alone[0]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, __file__, folder], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    seen = [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]
    return [{**s, "printed": run.stdout + run.stderr} for s in seen]


@pytest.fixture
def group_of_one():
    yield setup("cpu")
    teardown()


def test_the_losses_are_those_of_one_process(alone, two):
    assert [seen["size"] for seen in two] == [2, 2]
    assert two[0]["records"] == two[1]["records"]  # every process reports the whole, not its part
    np.testing.assert_allclose(two[0]["records"], alone[1], rtol=TOLERANCE)
    losses, norms = np.array(alone[1]).T
    assert losses[-1] < losses[0] - 0.03 and (norms > 1).any()  # it learns, and the clipping is at work


def test_the_others_wait_for_what_the_first_does_alone(two):
    assert [seen["written"] for seen in two] == [["by-0"], ["by-0"]]
    assert [seen["failed"] for seen in two] == ["ZeroDivisionError('division by zero')", "SystemExit(1)"]


def test_the_comparison_can_fail(alone):
    """One process's part of the batches alone gives losses that are further away by orders of magnitude."""
    model = Llama(CONFIG, seed=0)
    part = train(model, make_optimizer(model), make_batches(rank=0, world_size=2), range(1, STEPS + 1))
    assert (np.abs(np.array(part) / np.array(alone[1]) - 1)[1:].min(0) > 20 * TOLERANCE).all()


def test_the_weights_are_those_of_one_process(alone, two):
    weights = torch.load(alone[0] / "weights.pt", weights_only=True)
    expected = alone[2].state_dict()
    assert list(weights) == list(expected)
    assert [seen["gathered"] for seen in two] == [len(expected), 0]
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-4)  # 4 steps of 3e-3 moved them by 1e-2


def test_each_process_keeps_its_half(two):
    whole = 3 * CONFIG.n_parameters()  # weights and Adam's two averages
    assert sum(seen["numbers kept"] for seen in two) == whole
    assert all(abs(seen["numbers kept"] / whole - 0.5) < 0.01 for seen in two)


def test_two_processes_go_on_where_two_stopped(two):
    assert two[0]["two on two"] == two[0]["records"][MIDDLE:]  # to the last bit


def test_two_processes_go_on_where_one_stopped(alone, two):
    """Into a model that had no numbers at all before: everything comes from the checkpoint."""
    np.testing.assert_allclose(two[0]["one on two"], alone[1][MIDDLE:], rtol=TOLERANCE)


def test_one_process_goes_on_where_two_stopped(alone, two):
    records = resume(alone[0] / "of-two" / f"step-{MIDDLE:08d}", Llama(CONFIG, seed=99), make_batches())
    np.testing.assert_allclose(records, alone[1][MIDDLE:], rtol=TOLERANCE)


def test_one_process_goes_on_where_one_stopped(alone):
    records = resume(alone[0] / "of-one" / f"step-{MIDDLE:08d}", Llama(CONFIG, seed=99), make_batches())
    assert records == alone[1][MIDDLE:]


def test_the_weights_alone_are_loaded_for_use(alone, two):
    model, other = Llama(CONFIG, seed=99), Llama(CONFIG, seed=98)
    for m, name in ((model, "of-one"), (other, "of-two")):
        assert load_distributed(alone[0] / name / f"step-{MIDDLE:08d}", m)["step"] == MIDDLE
    torch.testing.assert_close(model(torch.arange(9)[None]), other(torch.arange(9)[None]), rtol=0, atol=1e-4)


def test_bfloat16_computes_narrow_and_keeps_wide(alone, two):
    assert two[0]["dtypes"] == ["torch.float32"]
    losses, expected = (np.array(records)[:1, 0] for records in (two[0]["bfloat16"], alone[1]))
    np.testing.assert_allclose(losses, expected, rtol=1e-2)
    assert (losses != expected).all()


def test_what_cannot_be_loaded_is_named(alone, tmp_path):
    middle = alone[0] / "of-one" / f"step-{MIDDLE:08d}"
    with pytest.raises(CheckpointError, match="'dim': 64.*expected.*'dim': 128"):
        load_distributed(middle, Llama(replace(CONFIG, dim=128)))
    with pytest.raises(CheckpointError, match="no complete distributed checkpoint"):
        load_distributed(tmp_path, Llama(CONFIG))


def test_only_complete_checkpoints_have_their_name(alone, tmp_path, monkeypatch):
    model = Llama(CONFIG, seed=0)
    optimizer = make_optimizer(model)
    with pytest.raises(ValueError, match="after the first update"):
        save_distributed(tmp_path, 0, model, optimizer, {})
    train_step(model, optimizer, make_batches())
    with monkeypatch.context() as patch:
        patch.setattr("minillama.pretraining.distributed.os.replace", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_distributed(tmp_path, 1, model, optimizer, {})
    assert not list(tmp_path.glob("step-*"))
    written = save_distributed(tmp_path, 1, model, optimizer, {"note": "again"})  # over what was left
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert load_distributed(written, model) == {"note": "again", "step": 1}
    assert save_distributed(tmp_path, 1, model, optimizer, {"note": "other"}) == written
    assert load_distributed(written, model)["note"] == "again"


# --- the trainer ----------------------------------------------------------------------------------------------------


def test_a_trainer_of_two_is_a_trainer_of_one(trained_alone, two):
    for seen in two:
        assert len(seen["trainer"]) == STOP  # both stopped, though one was asked
        together = seen["trainer"] + seen["trainer, two on two"]
        np.testing.assert_allclose(together, numbers(trained_alone.records), rtol=TOLERANCE)
        assert seen["looks"] == [[2, 0.5]]
    logits = trained_alone.model(torch.arange(9)[None]).flatten()
    torch.testing.assert_close(torch.tensor(two[0]["logits"]), logits, rtol=0, atol=1e-4)
    assert "logits" not in two[1]


def test_a_trainer_of_two_speaks_with_one_voice(alone, two):
    assert two[0]["printed"].count(f"Stopped after step {STOP} of {RECIPE.steps}; saved in {alone[0]}") == 1


def test_a_trainer_of_two_goes_on_where_one_stopped(trained_alone, two):
    np.testing.assert_allclose(two[0]["trainer, one on two"], numbers(trained_alone.records)[STOP:], rtol=TOLERANCE)


def test_a_trainer_of_one_goes_on_where_two_stopped(alone, trained_alone, two, group_of_one, tmp_path):
    folder = alone[0] / "trainer-of-two"
    assert [path.name for path in checkpoints(folder)] == [f"step-{n:08d}" for n in (STOP, RECIPE.steps)]
    shutil.copytree(checkpoints(folder)[0], tmp_path / checkpoints(folder)[0].name)
    with pytest.raises(CheckpointError, match="written by several processes; go on with DistributedTrainer.resume"):
        Trainer.resume(tmp_path, make_batches())
    trainer = DistributedTrainer.resume(tmp_path, make_batches(), device=group_of_one)
    np.testing.assert_allclose(
        numbers(trainer.train(progress=False)), numbers(trained_alone.records)[STOP:], rtol=TOLERANCE
    )


def test_each_process_must_have_its_own_part(group_of_one, tmp_path):
    for make in (Trainer, partial(DistributedTrainer, device=group_of_one)):
        with pytest.raises(ValueError, match="the batches are part 1 of 2, this process is number 0 of 1"):
            make(Llama(CONFIG), make_batches(1, 2), RECIPE)
    trainer = DistributedTrainer(Llama(CONFIG), make_batches(), RECIPE, tmp_path, device=group_of_one)
    assert trainer.save() is None and not checkpoints(tmp_path)  # Adam has nothing to keep before the first update


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    torch.multiprocessing.start_processes(work, (number, Path(sys.argv[1])), nprocs=2, start_method="fork")

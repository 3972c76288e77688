"""Training: the recipe against its formulas, exact resume however a run ends, and errors that say what to do."""

import dataclasses
import functools
import importlib.util
import json
import math
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minillama.model.checkpoints import CheckpointError, load_safetensors
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama
from minillama.pretraining import checkpointing
from minillama.pretraining.checkpointing import checkpoints, read_state
from minillama.pretraining.shards import Batches
from minillama.pretraining.trainer import (
    DivergenceError,
    TrainConfig,
    Trainer,
    learning_rate,
    make_optimizer,
    matmul_peak,
    next_token_loss,
)

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=64, multiple_of=16, max_seq_len=16)
RECIPE = TrainConfig(steps=20, batch_size=4, context=16, peak_lr=1e-2, warmup_steps=4)


def row() -> np.ndarray:
    """Tokens with something to learn: each is one of two that may follow the one before."""
    tokens = [1]
    for choice in np.random.default_rng(0).integers(0, 2, 2000):
        tokens.append((5 * tokens[-1] + int(choice)) % 64)
    return np.array(tokens)


def batches(config: TrainConfig = RECIPE, seed: int = 0) -> Batches:
    return Batches(row(), config.batch_size, config.context, seed)


def trainer(folder=None, weights=torch.float32, model_seed=0, data_seed=0, on_step=None, on_eval=None, **changes):
    config = dataclasses.replace(RECIPE, **changes)
    model = Llama(SHAPE, model_seed).to(weights)
    return Trainer(model, batches(config, data_seed), config, folder, on_step, on_eval)


def run(until=None, **arguments) -> list[float]:
    return [record.loss for record in trainer(**arguments).train(until, progress=False)]


def assert_same_run(a: Trainer, b: Trainer) -> None:
    """Weights, averages, position and random numbers, to the last bit."""
    assert (a.step, a.tokens, a.batches.state_dict()) == (b.step, b.tokens, b.batches.state_dict())
    for (name, ours), theirs in zip(a.model.named_parameters(), b.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        for key, value in a.optimizer.state[ours].items():
            assert torch.equal(value, b.optimizer.state[theirs][key]), (name, key)


# --- the recipe -----------------------------------------------------------------------------------------------------


@given(
    steps=st.integers(2, 5000),
    share=st.floats(0, 0.99),
    peak=st.floats(1e-5, 1),
    ratio=st.floats(0, 1),
    at=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_learning_rate_is_the_formula(steps, share, peak, ratio, at):
    warmup, t = int(share * steps), round(at * steps)
    config = TrainConfig(steps, 1, 1, peak_lr=peak, warmup_steps=warmup, min_lr_ratio=ratio)
    if t < warmup:
        expected = peak * t / warmup
    else:
        cosine = np.cos(np.pi * (t - warmup) / (steps - warmup))
        expected = ratio * peak + (peak - ratio * peak) * (1 + cosine) / 2
    assert learning_rate(t, config) == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_learning_rate_at_its_corners():
    config = TrainConfig(100, 1, 1, peak_lr=3e-4, warmup_steps=20)
    assert learning_rate(1, config) == pytest.approx(3e-4 / 20)
    assert learning_rate(20, config) == pytest.approx(3e-4)
    assert learning_rate(60, config) == pytest.approx((3e-4 + 3e-5) / 2)  # half way down
    assert learning_rate(100, config) == learning_rate(1000, config) == pytest.approx(3e-5)
    rates = [learning_rate(step, config) for step in range(1, 101)]
    assert rates[:20] == sorted(rates[:20]) and rates[19:] == sorted(rates[19:], reverse=True)
    constant = TrainConfig(100, 1, 1, peak_lr=3e-4, min_lr_ratio=1)
    assert {learning_rate(step, constant) for step in range(1, 101)} == {3e-4}


def test_the_run_follows_the_schedule_from_step_one():
    records = trainer().train(progress=False)
    assert [record.step for record in records] == list(range(1, 21))
    assert [record.lr for record in records] == [learning_rate(step, RECIPE) for step in range(1, 21)]


def test_adamw_is_the_formula_and_only_matrices_decay():
    """Six steps against plain loops in float64; the tolerance is float64's rounding."""
    config = dataclasses.replace(RECIPE, peak_lr=0.05, weight_decay=0.3, betas=(0.8, 0.9), eps=1e-4)
    model = torch.nn.ModuleDict({"matrix": torch.nn.Linear(3, 2), "norm": torch.nn.RMSNorm(3)}).double()
    optimizer = make_optimizer(model, config)
    w = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    m, v = ({name: np.zeros_like(x) for name, x in w.items()} for _ in range(2))
    generator = np.random.default_rng(0)
    for t in range(1, 7):
        for name, parameter in model.named_parameters():
            gradient = generator.normal(size=w[name].shape)
            parameter.grad = torch.from_numpy(gradient.copy())
            decay = 0.3 if w[name].ndim == 2 else 0.0
            for i in np.ndindex(gradient.shape):
                m[name][i] = 0.8 * m[name][i] + 0.2 * gradient[i]
                v[name][i] = 0.9 * v[name][i] + 0.1 * gradient[i] ** 2
                m_hat, v_hat = m[name][i] / (1 - 0.8**t), v[name][i] / (1 - 0.9**t)
                w[name][i] -= 0.05 * (m_hat / (math.sqrt(v_hat) + 1e-4) + decay * w[name][i])
        optimizer.step()
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), w[name], rtol=1e-12, atol=1e-14)


def test_every_parameter_is_optimised_once_and_the_right_ones_decay():
    model = Llama(SHAPE)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {
        group["weight_decay"]: {names[id(p)] for p in group["params"]}
        for group in make_optimizer(model, RECIPE).param_groups
    }
    norms = {name for name in names.values() if "norm" in name}
    assert groups == {0.1: set(names.values()) - norms, 0.0: norms} and len(norms) == 5


def test_one_step_is_clipped_gradient_then_adamw():
    """The first update, written out: the sign of Adam hides clipping unless eps is large, so it is."""
    run_ = trainer(weights=torch.float64, clip=0.01, eps=0.1, warmup_steps=0)
    tokens = next(batches())
    model = Llama(SHAPE).double()
    loss = F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
    loss.backward()
    norm = math.sqrt(sum((p.grad**2).sum().item() for p in model.parameters()))
    (record,) = run_.train(1, progress=False)
    assert record.loss == pytest.approx(loss.item(), rel=1e-12)
    assert record.grad_norm == pytest.approx(norm, rel=1e-12) and norm > 0.01
    for ours, plain in zip(run_.model.parameters(), model.parameters(), strict=True):
        gradient = plain.grad * 0.01 / norm
        decay = 0.1 * plain if plain.dim() == 2 else 0
        expected = plain - record.lr * (gradient / (gradient.abs() + 0.1) + decay)
        # torch adds 1e-6 to the norm that it divides by, 1e-4 of this clip at the most
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


def test_accumulated_batches_are_one_big_batch():
    """In float64, where the order of a sum changes the last of 16 digits only."""
    big, small = (
        trainer(weights=torch.float64, batch_size=8),
        trainer(weights=torch.float64, batch_size=2, accumulate=4),
    )
    for a, b in zip(big.train(5, progress=False), small.train(5, progress=False), strict=True):
        assert (a.loss, a.grad_norm) == (pytest.approx(b.loss, rel=1e-10), pytest.approx(b.grad_norm, rel=1e-10))
        assert a.tokens == b.tokens == a.step * 8 * 16
    for ours, theirs in zip(big.model.parameters(), small.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_the_model_learns_to_the_entropy_of_its_data():
    losses = run(steps=150, peak_lr=2e-2)
    assert losses[0] == pytest.approx(math.log(64), abs=0.1)  # knows nothing
    assert np.mean(losses[-10:]) == pytest.approx(math.log(2), abs=0.1)  # one of two


def test_the_seeds_decide_everything():
    assert run(until=5) == run(until=5)
    assert run(until=5) != run(until=5, model_seed=1) != run(until=5, data_seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"peak_lr": -1.0}, "peak_lr must be above 0"),
        ({"peak_lr": math.nan}, "peak_lr must be above 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must not be below 0"),
        ({"warmup_steps": 20}, r"warmup_steps must lie in 0 .. steps - 1 = 19, got 20"),
        ({"min_lr_ratio": 1.5}, "min_lr_ratio must lie between 0 and 1"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"dtype": "float16"}, "dtype must be one of"),
    ],
)
def test_a_recipe_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the batches have 4 sequences of 16 tokens, the config says 8 of 16"):
        Trainer(Llama(SHAPE), batches(), dataclasses.replace(RECIPE, batch_size=8))
    with pytest.raises(ValueError, match="until must be at most config.steps = 20, got 21"):
        trainer().train(21)
    trainer(tmp_path).save()
    with pytest.raises(ValueError, match="already holds a run: go on with Trainer.resume"):
        trainer(tmp_path)


# --- number formats, compilation, speed -----------------------------------------------------------------------------


def test_bfloat16_autocast_trains_float32_weights():
    exact, rough = trainer(), trainer(dtype="bfloat16")
    a, b = (np.array([r.loss for r in t.train(progress=False)]) for t in (exact, rough))
    assert {p.dtype for p in rough.model.parameters()} == {torch.float32}
    assert (a != b).any()
    np.testing.assert_allclose(a, b, rtol=0.03)  # bfloat16 has 8 bits


def test_compiled_training_is_the_same_training(monkeypatch):
    """With the back end that traces the model in one piece but writes no C++, which would take a minute."""
    compiled = []

    def compile_without_code(model):
        compiled.append(model)
        return torch_compile(model, backend="eager", fullgraph=True)

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compile_without_code)
    losses = run(until=3, compile=True)
    assert len(compiled) == 1
    torch.testing.assert_close(losses, run(until=3), rtol=1e-5, atol=1e-6)


def test_matmul_peak_times_a_product_and_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    small = matmul_peak(size=256, rounds=3)
    assert torch.equal(before, torch.get_rng_state())
    assert 1e8 < small < 1e14  # from a busy core to a GPU


def test_the_bar_shows_loss_speed_mfu_and_time_left(capsys):
    run_ = trainer()
    run_.peak_flops = 1e9
    run_.train(3)
    printed = capsys.readouterr().err
    assert "3/3" in printed and "<" in printed  # elapsed < left
    loss, speed, mfu = re.findall(r"loss ([\d.]+), ([\d,]+) tokens/s, MFU (\d+)%", printed)[-1]
    assert float(loss) == pytest.approx(math.log(64), abs=0.3)
    flops = SHAPE.flops_per_token(RECIPE.context, training=True)
    assert int(mfu) == pytest.approx(100 * int(speed.replace(",", "")) * flops / 1e9, abs=1)


# --- stopping and going on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop", "accumulate"), [(1, 1), (7, 1), (13, 3)])
def test_a_resumed_run_is_the_unbroken_run(tmp_path, stop, accumulate):
    unbroken = trainer(accumulate=accumulate)
    expected = unbroken.train(progress=False)
    first = trainer(tmp_path, accumulate=accumulate).train(stop, progress=False)
    torch.manual_seed(99)  # whatever the process did in between
    second = Trainer.resume(tmp_path, batches())
    again = second.train(progress=False)
    strip = [dataclasses.replace(record, seconds=0) for record in expected]
    assert [dataclasses.replace(record, seconds=0) for record in first + again] == strip
    assert_same_run(unbroken, second)


def test_the_random_numbers_go_on_too(tmp_path):
    drawn: dict[bool, list[float]] = {True: [], False: []}

    def draw(record, broken):
        drawn[broken].append(torch.rand(1).item())

    trainer(on_step=functools.partial(draw, broken=False)).train(6, progress=False)
    trainer(tmp_path, on_step=functools.partial(draw, broken=True)).train(3, progress=False)
    torch.manual_seed(99)
    Trainer.resume(tmp_path, batches(), functools.partial(draw, broken=True)).train(6, progress=False)
    assert drawn[True] == drawn[False]


def test_evaluation_is_called_on_time_and_changes_nothing():
    seen = []

    def look(run_):
        assert not run_.model.training and not torch.is_grad_enabled()
        torch.rand(5)
        seen.append((run_.step, next_token_loss(run_.model, torch.arange(17)[None]).item()))

    watched, alone = trainer(on_eval=look, eval_every=3), trainer()
    drawn = []
    for run_ in (watched, alone):
        torch.manual_seed(0)
        run_.train(10, progress=False)
        drawn.append(torch.rand(3).tolist())
    assert [step for step, _ in seen] == [3, 6, 9]
    assert drawn[0] == drawn[1]
    assert_same_run(watched, alone)


def test_checkpoints_come_on_time_and_the_last_two_stay(tmp_path):
    trainer(tmp_path, save_every=3).train(10, progress=False)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000009", "step-00000010"]
    files = {path.name for path in checkpoints(tmp_path)[-1].iterdir()}
    assert files == {"model.safetensors", "training.safetensors", "state.json"}  # no pickle
    assert read_state(checkpoints(tmp_path)[-1])["config"]["save_every"] == 3


def test_the_weights_of_a_checkpoint_are_an_ordinary_model(tmp_path):
    run_ = trainer(tmp_path)
    run_.train(2, progress=False)
    model = load_safetensors(checkpoints(tmp_path)[-1] / "model.safetensors")
    tokens = torch.arange(16)[None]
    assert torch.equal(model(tokens), run_.model(tokens))


@pytest.mark.parametrize("step", ["save_file", "save_safetensors", "_force_to_disk"])
def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, step):
    run_ = trainer(tmp_path)
    run_.train(2, progress=False)

    def fail(*arguments):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, step, fail)
        with pytest.raises(OSError, match="disk is full"):
            run_.train(3, progress=False)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002"]
    assert_same_run(Trainer.resume(tmp_path, batches()), Trainer.resume(tmp_path, batches()))
    run_.save()  # once there is room
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000002", "step-00000003"]


def test_resume_refuses_what_it_should(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in it; start the run with"):
        Trainer.resume(tmp_path, batches())
    trainer(tmp_path).train(2, progress=False)
    with pytest.raises(ValueError, match="the saved run read data with seed=0, these batches have 5"):
        Trainer.resume(tmp_path, batches(seed=5))
    (checkpoint,) = checkpoints(tmp_path)
    for name in ("training.safetensors", "state.json", "model.safetensors"):
        good = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(good[: len(good) // 2])
        with pytest.raises(CheckpointError, match=str(checkpoint)):
            Trainer.resume(tmp_path, batches())
        (checkpoint / name).write_bytes(good)
    Trainer.resume(tmp_path, batches())


def test_on_step_may_stop_the_run():
    run_ = trainer(on_step=lambda record: run_.stop() if record.step == 3 else None)
    assert len(run_.train(progress=False)) == 3
    assert [record.step for record in run_.train(5, progress=False)] == [4, 5]


@pytest.fixture
def listens_to_ctrl_c():
    """Python's own handler, which a shell's background job does not have: there Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_finishes_the_step_and_the_second_one_interrupts(tmp_path, listens_to_ctrl_c):
    before = listens_to_ctrl_c

    def once(record):
        if record.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            while signal.getsignal(signal.SIGINT) is not before:  # a signal may take a moment to arrive
                time.sleep(0.001)

    def twice(record):
        once(record)
        if record.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)  # the interrupt ends this at once

    assert len(trainer(tmp_path, on_step=once).train(progress=False)) == 3
    assert read_state(checkpoints(tmp_path)[-1])["step"] == 3
    with pytest.raises(KeyboardInterrupt):
        trainer(on_step=twice).train(progress=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_runs_in_a_thread_too():
    losses = []
    thread = threading.Thread(target=lambda: losses.extend(run(until=2)))
    thread.start()
    thread.join()
    assert losses == run(until=2)


# --- killed processes: the small form of benchmarks/kill_resume.py --------------------------------------------------


@pytest.fixture(scope="module")
def kill_resume():
    spec = importlib.util.spec_from_file_location("kill_resume", ROOT / "benchmarks" / "kill_resume.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def unbroken(kill_resume, tmp_path_factory):
    """A run of 45 steps: its folder and its losses."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, kill_resume.run(folder, 45)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_killed_or_interrupted_ends_as_the_unbroken_one(tmp_path, number, kill_resume, unbroken):
    reference, expected = unbroken
    moment = random.Random()
    for attempt in range(5):  # on a busy machine the run may be over before the signal is sent
        folder, step, delay = tmp_path / str(attempt), moment.randrange(1, 16), moment.uniform(0, 0.03)
        before, status = kill_resume.run_until(number, folder, 45, step, delay)
        if max(before) < 45:
            break
    told = f"{number.name} {delay:.4f} s after step {step}, attempt {attempt}"
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0), told
    if number == signal.SIGINT:
        assert read_state(checkpoints(folder)[-1])["step"] == max(before) < 45, told
    after = kill_resume.run(folder, 45)
    assert min(after) <= max(before) + 1, told
    assert before | after == expected, told
    assert before.items() <= expected.items(), told
    assert kill_resume.differences(folder, reference) == [], told


# --- divergence -----------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path):
    def poison(record):
        if record.step == 5:
            with torch.no_grad():
                run_.model.norm.weight[0] = math.nan

    run_ = trainer(tmp_path, save_every=2, on_step=poison)
    with pytest.raises(DivergenceError) as error:
        run_.train(progress=False)
    message = str(error.value)
    assert message.startswith("step 6: the loss is nan") and "half the peak_lr" in message
    assert str(tmp_path / "step-00000004") in message
    assert [read_state(path)["step"] for path in checkpoints(tmp_path)] == [2, 4]
    resumed = Trainer.resume(tmp_path, batches())
    assert all(parameter.isfinite().all() for parameter in resumed.model.parameters())
    assert len(resumed.train(progress=False)) == 16


def test_an_infinite_gradient_does_not_touch_the_weights():
    run_ = trainer(peak_lr=1e-3)
    run_.model.output.weight.register_hook(lambda gradient: gradient * math.inf)
    before = [parameter.clone() for parameter in run_.model.parameters()]
    with pytest.raises(DivergenceError, match="step 1: .*There is no checkpoint before it"):
        run_.train(progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, run_.model.parameters(), strict=True))


def test_a_recipe_survives_json():
    config = dataclasses.replace(RECIPE, betas=(0.8, 0.99), clip=math.inf)
    assert TrainConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config

"""`data/build.py` remakes what it says: the cheap parts are made again here and compared, bit for bit."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
sys.path.insert(0, str(DATA))

from recipes import common, tokenizer  # noqa: E402

from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.tokenizer import Tokenizer  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.pretraining.trainer import TrainConfig, Trainer  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=8, max_seq_len=256)
RECIPE = TrainConfig(steps=12, batch_size=2, context=32, peak_lr=1e-2, warmup_steps=2, save_every=4)


@pytest.fixture
def build():
    spec = importlib.util.spec_from_file_location("build", DATA / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return common.corpus(tmp_path_factory.mktemp("work"), 60)


def test_the_tokenizer_is_remade_bit_for_bit(tmp_path):
    tokenizer.main(tmp_path, tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == (DATA / "tokenizer.model").read_bytes()


def test_the_tokenizer_knows_keyboard_characters_and_the_marks_of_a_chat():
    tok = Tokenizer.from_file(DATA / "tokenizer.model")
    assert tok.vocab_size == 2048
    text = "".join(map(chr, range(32, 127)))
    assert tok.decode(tok.encode(text)) == text
    assert not any(tok.piece(i).startswith("<0x") for i in tok.encode(text))
    assert [tok.piece(i) for i in tok.encode("[INST] <<SYS>>")] == ["▁[", "INST", "]", "▁<<", "SYS", ">>"]


def test_a_run_that_is_stopped_goes_on_to_the_same_log_and_weights(tmp_path, shards, monkeypatch):
    monkeypatch.setattr(common, "measure", lambda model, tok: {"norm": float(model.norm.weight.detach().sum())})
    whole, log = common.train("whole", tmp_path, TINY, RECIPE, shards, measure_at=(6,), record_every=4)

    def killed(self, until=None, progress=True, _train=Trainer.train):
        _train(self, until=7, progress=False)  # past the checkpoint of step 4 and the measure of step 6
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        common.train("parts", tmp_path, TINY, RECIPE, shards, measure_at=(6,), record_every=4)
    monkeypatch.undo()
    monkeypatch.setattr(common, "measure", lambda model, tok: {"norm": float(model.norm.weight.detach().sum())})
    last = tmp_path / "parts" / "step-00000007"
    assert last.exists()
    shutil.rmtree(last)  # as after a crash between two checkpoints
    parts, resumed = common.train("parts", tmp_path, TINY, RECIPE, shards, measure_at=(6,), record_every=4)
    assert resumed == log
    assert [m["step"] for m in log["measures"]] == [6, 12] and [point[0] for point in log["curve"]] == [4, 8, 12]
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)


def test_measures_are_shares_and_bits(shards):
    model = Llama(TINY)
    model.init_weights(0)
    found = common.measure(model, common.tokenizer(), stories=3, samples=2)
    assert found["bits_per_character"] > 1  # nothing learned
    assert 0 <= found["binding"] <= 0.5 and found["stories_consistent"] == 0
    assert set(found["binding_by_kind"]) <= set(common.ASKED)


def test_an_unknown_recipe_is_refused(build, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["build.py", "bread"])
    with pytest.raises(SystemExit):
        build.main()
    assert "unknown recipe ['bread']" in capsys.readouterr().err


def test_build_runs_only_what_is_missing_and_what_comes_before(build, tmp_path, monkeypatch):
    ran = []
    modules = {
        name: type(
            "R", (), {"OUTPUTS": (f"{name}.out",), "__doc__": name, "main": lambda work, name=name: ran.append(name)}
        )
        for name in "abc"
    }
    monkeypatch.setattr(build, "RECIPES", ("a", "b", "c"))
    monkeypatch.setattr(build, "DATA", tmp_path)
    monkeypatch.setattr(build.importlib, "import_module", lambda name: modules[name.removeprefix("recipes.")])
    (tmp_path / "a.out").touch()
    build.build(["b"], again=False, work=tmp_path)
    assert ran == ["b"]
    (tmp_path / "b.out").touch()
    build.build(["a", "c"], again=True, work=tmp_path)
    assert ran == ["b", "a", "c"]


def test_the_base_model_is_the_one_that_its_log_describes(build):
    log = json.loads((DATA / "base" / "log.json").read_text())
    tok, model = common.tokenizer(), common.load_base()
    assert model.config.n_parameters() == log["parameters"]
    texts = [s.text for s in common.held_out_stories(60)]
    bits = common.bits_per_character(model, tok, texts)
    assert bits == pytest.approx(log["measures"][-1]["bits_per_character"], abs=0.003)  # bfloat16 costs a little

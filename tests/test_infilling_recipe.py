"""The recipe behind chapter 19's infilling: what is stored belongs together, and a stopped run goes on."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import code, infilling  # noqa: E402

from minillama.alignment.sft import Recipe  # noqa: E402
from minillama.family.infilling import marks  # noqa: E402
from minillama.model.checkpoints import load_safetensors  # noqa: E402
from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.tokenizer import Tokenizer  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
SIZES = replace(
    infilling.SIZES, programs=30, library=5, unseen=20, functions=4, holes=5, spans=3,
    training=Recipe(epochs=1, batch_size=4, peak_lr=1e-3, context=128),
)  # fmt: skip


@pytest.fixture
def out(tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "code" / "tokenizer.model").write_bytes((DATA / "code" / "tokenizer.model").read_bytes())
    monkeypatch.setattr(infilling, "SEEDS", (0, 1))
    monkeypatch.setattr(infilling, "SIZES", SIZES)
    monkeypatch.setattr(infilling, "LONGEST", 4)
    monkeypatch.setattr(infilling, "load_base", lambda: Llama(TINY, 0))
    few = {part: texts[:40] for part, texts in infilling.code_corpus().items()}
    monkeypatch.setattr(infilling, "code_corpus", lambda: few)
    return tmp_path


def test_stored_measures_belong_together(out, monkeypatch):
    infilling.main(out, out)
    stored = json.loads((out / "runs" / "infilling.json").read_text())
    assert [run["seed"] for run in stored["runs"]] == [0, 1] and stored["sizes"]["programs"] == 30
    for run in stored["runs"]:
        for source in infilling.SOURCES:
            lines = stored["holes"][f"{source}, lines"]
            for name in ("next line, with", "next line, without", "lines, PSM", "lines, SPM"):
                found = run[f"{source}, {name}"]
                assert found["exact"] == [
                    int(t == middle) for t, (_, middle, _) in zip(found["texts"], lines, strict=True)
                ]
            assert len(run[f"{source}, left to right, with"]["bits"]) == 4
        assert run["training"]["with"]["documents"] == run["training"]["without"]["documents"]
        assert run["training"]["with"]["tokens"] > run["training"]["without"]["tokens"]
    assert load_safetensors(out / "code" / "model.safetensors").config.vocab_size == code.SIZE
    monkeypatch.setattr(infilling, "fine_tune", None)  # nothing is trained or asked again
    monkeypatch.setattr(infilling, "infill_all", None)
    infilling.main(out, out)
    assert json.loads((out / "runs" / "infilling.json").read_text()) == stored


def test_what_is_asked_was_not_learnt(out):
    runs = [infilling.Run(out, seed, SIZES, out) for seed in infilling.SEEDS]
    assert runs[0].lines("programs") == runs[1].lines("programs")
    for run in runs:
        asked = {hole.text for source in infilling.SOURCES for hole in (*run.lines(source), *run.spans(source))}
        assert asked and not asked & set(run.texts)


def test_the_stored_tokenizer_is_the_recipes():
    tokenizer = Tokenizer.from_file(DATA / "code" / "tokenizer.model")
    assert tokenizer.vocab_size == code.SIZE and marks(tokenizer) == tuple(range(code.SIZE - 4, code.SIZE))

"""The recipe that looks for copies: a model that recites is caught, what is held out is not accused."""

import json
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import common, memorisation  # noqa: E402

from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.tokenizer import Tokenizer  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.pretraining.corpus import village  # noqa: E402
from minillama.pretraining.ngram import NGram  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=600, multiple_of=8, max_seq_len=512)
TEXTS = [document.text for document in village(60)]


@pytest.fixture
def tok(monkeypatch):
    tok = Tokenizer.train(TEXTS, 600)
    for module in (common, memorisation):
        monkeypatch.setattr(module, "tokenizer", lambda: tok)
    for name, value in {"DOCUMENTS": 60, "STORIES": 3, "BATCH": 2, "LONGEST": 30}.items():
        monkeypatch.setattr(memorisation, name, value)
    monkeypatch.setattr(memorisation, "load_base", lambda: Llama(TINY, seed=0))
    return tok


def result(folder: Path) -> dict:
    memorisation.main(folder, folder)
    return json.loads((folder / memorisation.OUTPUTS[0]).read_text())


def test_a_model_that_recites_is_caught(tok, tmp_path, monkeypatch):
    titled = next(text for text in TEXTS[::2] if text.count("\n") == 1 and len(text) > 300)
    body = tok.encode(titled, bos=True)[len(tok.encode(titled.partition("\n")[0] + "\n", bos=True)) :]
    recited = [body, body[:-5], tok.encode("zzz qqq zzz qqq")]
    monkeypatch.setattr(memorisation, "write", lambda model, tok, titles: recited)
    found = result(tmp_path)
    story = titled.partition("\n")[2]
    assert found["base"]["exact_copies"] == [story]  # one that stops early is no exact copy, but a long run
    assert found["base"]["longest_runs"][:2] == [len(body), len(body) - 5] and found["base"]["longest_runs"][2] < 8
    assert found["base"]["longest"]["run"] == story
    assert found["held-out"]["exact_copies"] == [] and max(found["held-out"]["longest_runs"]) < len(body)


def test_both_models_write_one_story_a_title_without_its_end_mark(tok, tmp_path):
    titles = [story.title for story in memorisation.titled(3)]
    assert all(titles) and len(set(titles)) == 3
    counted = NGram(3, tok.vocab_size).train([tok.encode(text, bos=True, eos=True) for text in TEXTS])
    for model in (Llama(TINY, seed=0), counted):
        rows = memorisation.write(model, tok, titles)
        assert len(rows) == 3 and all(len(row) <= 30 and tok.eos_id not in row for row in rows)
        assert rows == memorisation.write(model, tok, titles)
    found = result(tmp_path)
    assert {len(found[name]["tokens"]) for name in ("base", "n-gram", "held-out")} == {3}
    assert found["tokens"] == sum(len(tok.encode(text, bos=True, eos=True)) for text in TEXTS)

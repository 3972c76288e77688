"""Token shards and batches: what is written is read back, every window comes once, and a stopped reader goes on."""

import json

import numpy as np
import pytest
import torch

from minillama import data_path
from minillama.model.tokenizer import Tokenizer
from minillama.pretraining.corpus import Document
from minillama.pretraining.shards import Batches, TokenShards, tokenizer_sha256, write_shards

TEXT = data_path("page.txt").read_text(encoding="utf-8")
DOCUMENTS = [Document(text, "long" if len(text) > 200 else "short") for text in TEXT.split("\n") if text.strip()]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT], 400)


@pytest.fixture(scope="module")
def row(tokenizer) -> np.ndarray:
    """The documents end to end, without the library's help."""
    return np.array([i for d in DOCUMENTS for i in [1, *tokenizer.encode(d.text), 2]])


@pytest.fixture
def shards(tokenizer, tmp_path) -> TokenShards:
    return write_shards(DOCUMENTS, tokenizer, tmp_path / "shards", shard_tokens=300)


# --- shards ---------------------------------------------------------------------------------------------------------


def test_the_row_is_the_documents_end_to_end(shards, row, tokenizer):
    assert len(list(shards.folder.glob("*.bin"))) > 2
    assert len(shards) == len(row)
    np.testing.assert_array_equal(shards[:], row)
    for number, document in enumerate(DOCUMENTS):
        assert tokenizer.decode(shards.document(number)[1:-1].tolist()) == document.text
    with pytest.raises(IndexError, match=f"there are {len(DOCUMENTS)} documents"):
        shards.document(len(DOCUMENTS))


def test_slices_cross_shards(shards, row):
    random = np.random.default_rng(0)
    for start, stop in random.integers(0, len(row) + 5, (200, 2)):
        np.testing.assert_array_equal(shards[start:stop], row[start:stop])
    np.testing.assert_array_equal(shards[-20:], row[-20:])
    np.testing.assert_array_equal(shards[3:900:7], row[3:900:7])
    with pytest.raises(TypeError, match="slices"):
        shards[3]


def test_the_index_says_what_is_inside(shards, tokenizer, tmp_path):
    assert shards.vocab_size == 400
    assert shards.sources["long"]["documents"] == sum(d.source == "long" for d in DOCUMENTS)
    assert sum(counts["tokens"] for counts in shards.sources.values()) == len(shards)
    tokenizer.save(tmp_path / "copy.model")
    assert shards.tokenizer_sha256 == tokenizer_sha256(Tokenizer.from_file(tmp_path / "copy.model"))
    assert shards.tokenizer_sha256 != tokenizer_sha256(tokenizer.with_control_pieces(["<more>"]))


@pytest.mark.parametrize(("vocab_size", "bytes_per_token"), [(2**16, 2), (2**16 + 1, 4)])
def test_two_bytes_hold_a_token_as_long_as_they_can(vocab_size, bytes_per_token, tmp_path, tokenizer):
    class Wide:  # a vocabulary of this size would take minutes to train
        vocabulary = tokenizer.vocabulary

        def encode(self, text, bos, eos):
            return [1, vocab_size - 1, 2]

    wide = Wide()
    wide.vocab_size = vocab_size
    shards = write_shards(DOCUMENTS[:1], wide, tmp_path / "wide")
    assert shards[:].tolist() == [1, vocab_size - 1, 2]
    assert next(shards.folder.glob("*.bin")).stat().st_size == 3 * bytes_per_token


def test_an_interrupted_writer_leaves_nothing(tokenizer, tmp_path):
    def documents():
        yield from DOCUMENTS[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(documents(), tokenizer, tmp_path / "shards", shard_tokens=10)
    assert list(tmp_path.iterdir()) == []


def test_writing_refuses_what_it_should(shards, tokenizer, tmp_path):
    with pytest.raises(FileExistsError, match="not empty"):
        write_shards(DOCUMENTS, tokenizer, shards.folder)
    with pytest.raises(ValueError, match="no document"):
        write_shards([], tokenizer, tmp_path / "empty")
    with pytest.raises(ValueError, match="shard_tokens must be at least 1, got 0"):
        write_shards(DOCUMENTS, tokenizer, tmp_path / "zero", shard_tokens=0)


def test_damage_is_found(shards):
    file = sorted(shards.folder.glob("*.bin"))[1]
    good = file.read_bytes()
    shards.verify()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{file.name} is not what was written"):
        TokenShards(shards.folder).verify()
    file.write_bytes(good[:-2])
    with pytest.raises(ValueError, match=f"{file.name} has {len(good) - 2} bytes, expected {len(good)}"):
        TokenShards(shards.folder)
    index = json.loads((shards.folder / "index.json").read_text())
    (shards.folder / "index.json").write_text(json.dumps(index | {"format": "other"}))
    with pytest.raises(ValueError, match="format 'other'"):
        TokenShards(shards.folder)


# --- batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_visits_every_window_once_and_the_next_in_another_order(shards, row):
    batches = Batches(shards, batch_size=1, context=16, seed=3)
    windows = [row[i * 16 : i * 16 + 17].tolist() for i in range((len(row) - 1) // 16)]
    epochs = [[next(batches)[0].tolist() for _ in windows] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(windows)
    assert epochs[0] != epochs[1] and epochs[0] != windows


def test_shape_type_and_seed(shards):
    first = next(Batches(shards, 4, 16, seed=3))
    assert first.shape == (4, 17) and first.dtype == torch.int64
    assert torch.equal(first, next(Batches(shards, 4, 16, seed=3)))
    assert not torch.equal(first, next(Batches(shards, 4, 16, seed=4)))


def test_an_array_serves_as_well_as_shards(shards, row):
    ours, plain = Batches(shards, 4, 16), Batches(row, 4, 16)
    for _ in range(3 * (ours.windows // 4)):  # into the third epoch
        assert torch.equal(next(ours), next(plain))


@pytest.mark.parametrize("done", [0, 1, 5, 37, 200])
def test_a_stopped_reader_goes_on_with_the_very_batch(shards, done):
    batches = Batches(shards, 4, 16, seed=1)
    for _ in range(done):
        next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = Batches(TokenShards(shards.folder), 4, 16, seed=1)
    resumed.load_state_dict(state)
    for _ in range(100):
        assert torch.equal(next(batches), next(resumed))


def test_processes_share_a_batch_and_their_number_may_change(shards):
    alone = Batches(shards, 4, 16)
    pair = [Batches(shards, 2, 16, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(60):
        assert torch.equal(next(alone), torch.cat([next(batches) for batches in pair]))
    assert pair[0].state_dict() == pair[1].state_dict() == alone.state_dict()
    four = [Batches(shards, 1, 16, rank=rank, world_size=4) for rank in range(4)]
    for batches in four:
        batches.load_state_dict(pair[0].state_dict())
    assert torch.equal(next(alone), torch.cat([next(batches) for batches in four]))


@pytest.mark.parametrize("change", [{"seed": 8}, {"context": 8}, {"shards": np.arange(5000)}])
def test_a_state_of_other_data_is_refused(shards, change):
    state = Batches(shards, 4, 16, seed=7).state_dict()
    arguments = {"shards": shards, "batch_size": 4, "context": 16, "seed": 7} | change
    with pytest.raises(ValueError, match="the saved run read data with"):
        Batches(**arguments).load_state_dict(state)


def test_batches_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="65 tokens hold 4 windows of 16 . 1, expected at least one batch of 5"):
        Batches(np.arange(65), 5, 16)
    Batches(np.arange(65), 4, 16)
    for arguments in ({"batch_size": 0}, {"context": 0}, {"rank": 1}, {"rank": -1, "world_size": 2}):
        with pytest.raises(ValueError, match="expected batch_size >= 1"):
            Batches(np.arange(65), **({"batch_size": 1, "context": 16} | arguments))

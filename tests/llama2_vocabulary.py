"""The true Llama 2 vocabulary for tests, from an optional package; where it is not installed, a test is skipped."""

import json
from importlib.resources import files
from importlib.util import find_spec

import pytest

from minillama.model.bpe import BYTE, CONTROL, SPACE, UNKNOWN, Piece, Vocabulary


def llama2_vocabulary() -> Vocabulary:
    """Llama 2's vocabulary, rebuilt from the ordered piece list that `wordllama` ships (Meta's, not ours to copy)."""
    if find_spec("wordllama") is None:
        pytest.skip("needs the optional package wordllama (extra `parity`), which ships Llama 2's piece list")
    source = files("wordllama") / "tokenizers" / "l2_supercat_tokenizer_config.json"
    vocab = json.loads(source.read_text(encoding="utf-8"))["model"]["vocab"]

    def piece(text: str, i: int) -> Piece:
        if i < 259:
            return Piece(text, 0.0, UNKNOWN if i == 0 else CONTROL if i < 3 else BYTE)
        return Piece(text, -1e9 if set(text) == {SPACE} else -float(i - 259))

    # What the official file records about its training; it has no influence on the ids.
    record = {
        "input": "/large_experiments/theorem/datasets/MERGED/all.test1.merged",
        "model_prefix": "spm_model_32k_200M_charcov099995_allowWSO__v2",
        "self_test_sample_size": 0, "input_format": "text", "character_coverage": 0.99995,
        "input_sentence_size": 200_000_000, "seed_sentencepiece_size": 1_000_000, "shrinking_factor": 0.75,
        "num_threads": 80, "num_sub_iterations": 2, "max_sentence_length": 4192, "shuffle_input_sentence": True,
        "max_sentencepiece_length": 16, "split_by_unicode_script": True, "split_by_whitespace": True,
        "split_by_number": True, "treat_whitespace_as_suffix": False, "split_digits": True,
        "allow_whitespace_only_pieces": True, "vocabulary_output_piece_score": True, "hard_vocab_limit": True,
        "use_all_vocab": False, "required_chars": "", "unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1,
        "unk_surface": " \u2047 ", "unk_piece": "<unk>", "bos_piece": "<s>", "eos_piece": "</s>", "pad_piece": "<pad>",
        "train_extremely_large_corpus": False, "enable_differential_privacy": False,
        "differential_privacy_noise_level": 0.0, "differential_privacy_clipping_threshold": 0,
    }  # fmt: skip
    ordered = sorted(vocab.items(), key=lambda item: item[1])
    return Vocabulary([piece(text, i) for text, i in ordered], trainer=record)

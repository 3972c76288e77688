"""Where documents come from: cut where the rules say, cleaned, without copies, and never in both parts."""

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from minillama.pretraining.sources import (
    HELD_OUT,
    Corpus,
    download_tinystories,
    open_corpus,
    read_documents,
    text_files,
    village,
)


def texts(corpus: Corpus) -> tuple[list[str], list[str]]:
    return [d.text for d in corpus.train()], [d.text for d in corpus.held_out()]


def test_documents_end_at_the_separator_wherever_it_stands(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text(
        "One.\n\nStill one.\n<|endoftext|>\nTwo. <|endoftext|>Three.<|endoftext|><|endoftext|>\n \nFour\u00a0."
    )
    assert list(read_documents(file)) == ["One.\n\nStill one.", "Two.", "Three.", "Four ."]
    expected = ["One.", "Still one.", "Two.", "Three.", "Four ."]
    assert list(read_documents(file, at_blank_lines=True)) == expected


def test_blank_lines_count_only_where_documents_are_few(tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("\n\n".join(f"Paragraph {n}\nof two lines." for n in range(40)))
    train, held_out = texts(open_corpus(str(few)))
    assert len(train) == 38 and held_out == ["Paragraph 19\nof two lines.", "Paragraph 39\nof two lines."]
    folder = tmp_path / "many" / "deep"
    folder.mkdir(parents=True)
    for n in range(HELD_OUT):
        (folder / f"{n:02}.md").write_text(f"Title {n}\n\nText.")
    (folder / "notes.pdf").write_bytes(b"\xff")
    train, held_out = texts(open_corpus(str(tmp_path / "many")))
    assert train[:2] == ["Title 0\n\nText.", "Title 1\n\nText."] and held_out == ["Title 19\n\nText."]


def test_copies_are_dropped_before_the_parts_are_made(tmp_path):
    file = tmp_path / "a.txt"
    once = [f"Story number {n}." for n in range(45)]
    file.write_text("<|endoftext|>".join([*once, *(text.upper() for text in once)]))
    train, held_out = texts(open_corpus(str(file)))
    assert held_out == [once[19], once[39]] and sorted(train + held_out) == sorted(once)


def test_a_corpus_can_be_read_again_and_its_identity_is_that_of_its_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("<|endoftext|>".join(f"Story number {n}." for n in range(45)))
    corpus = open_corpus(str(file))
    assert texts(corpus) == texts(corpus)
    assert open_corpus(str(file)).identity == corpus.identity
    file.write_text(file.read_text().replace("44", "99"))
    assert open_corpus(str(file)).identity != corpus.identity
    assert open_corpus("village", 40).identity != open_corpus("village", 41).identity


def test_the_village_is_told_in_full():
    train, held_out = texts(open_corpus("village", 40))
    assert (len(train), len(held_out)) == (38, 2)
    assert set(train) | set(held_out) == {document.text for document in village(40)}


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        text_files(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no file in it ends in \.txt or \.md"):
        text_files(tmp_path)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.txt: not UTF-8 text"):
        open_corpus(str(tmp_path))


def test_a_failed_download_says_what_to_do_instead(monkeypatch):
    def offline(*arguments, **options):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(ConnectionError, match="valid.txt of TinyStories cannot be downloaded .*copy the file"):
        download_tinystories("valid")

"""What a corpus is made of: pronouns, identities, languages, how well it compresses (chapter 8).

Counts over documents, not over words: the share of documents in which a term occurs at least once.

Does: the paper's pronoun and identity shares with its own top terms, a guess at the language, bits per character.
Does not: tell what is *said* about anybody, or recognise more than eight European languages.
Source: Touvron et al. 2023, section 4.1.
"""

import lzma
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

PRONOUNS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "hers", "herself"),
    "unspecified": ("they", "them", "their", "theirs", "themself", "themselves"),
    "first person": ("i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"),
    "second person": ("you", "your", "yours", "yourself", "yourselves"),
}
# the five most frequent terms of each axis in the paper; its full lists are longer
IDENTITIES = {
    "gender and sex": ("female", "male", "feminine", "transgender", "masculine"),
    "sexual orientation": ("gay", "lesbian", "lgbt", "lgbtq", "queer"),
    "nationality": ("american", "indian", "chinese", "korean", "mexican"),
    "race and ethnicity": ("european", "african", "asian", "latin", "indigenous"),
    "religion": ("christian", "religious", "spiritual", "catholic", "jewish"),
}
# frequent words of each language, without those that several of these languages share
_FREQUENT = {
    "en": "the of and to is that it for with he she his her at from this had you which are be by have they",
    "de": "der die und das ist nicht ein eine mit von zu auf ich sich dem auch wie im war sie es",
    "fr": "le les et est des une dans pas que pour qui sur elle ce avec nous vous au du ne je plus",
    "es": "el los las por su más pero como está muy lo ella yo esta hay fue",
    "pt": "o os e uma não com mas ele ela em do da na no são muito foi ao seu sua",
    "it": "gli di che è non per sono della nel si ma lui lei questo anche più",
    "nl": "het een van niet dat op te zijn met voor hij aan maar ook bij naar ze",
    "sv": "och att det som på är av för med inte till han hon jag var ett om de",
}
FREQUENT = {language: frozenset(words.split()) for language, words in _FREQUENT.items()}


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"[^\W\d_]+", text.casefold())


def pronoun_shares(texts: Iterable[str]) -> dict[str, float]:
    """Share of documents with each group of `PRONOUNS`, and under "gendered" with he or she words.

    Args:
        texts: documents.

    Returns:
        {group: share from 0 to 1}; all 0 if there are no documents.
    """
    seen, total = Counter(), 0
    for text in texts:
        total += 1
        words = set(words_of(text))
        groups = {group for group, forms in PRONOUNS.items() if words & set(forms)}
        seen.update(groups | ({"gendered"} if groups & {"he", "she"} else set()))
    return {group: seen[group] / max(1, total) for group in ("gendered", *PRONOUNS)}


def identity_shares(
    texts: Iterable[str], axes: Mapping[str, Sequence[str]] = IDENTITIES
) -> dict[str, tuple[float, dict[str, float]]]:
    """Share of documents that name an axis, and each term's share among those.

    Args:
        texts: documents.
        axes: name of an axis to its terms, in lower case.

    Returns:
        {axis: (share of documents, {term: share of the documents of this axis})}.
    """
    of_axis, of_term, total = Counter(), Counter(), 0
    for text in texts:
        total += 1
        words = set(words_of(text))
        for axis, terms in axes.items():
            found = words & set(terms)
            of_axis[axis] += bool(found)
            of_term.update((axis, term) for term in found)
    return {
        axis: (of_axis[axis] / max(1, total), {term: of_term[axis, term] / max(1, of_axis[axis]) for term in terms})
        for axis, terms in axes.items()
    }


def language(text: str, least: float = 0.12) -> str:
    """The language whose frequent words make up most of the text.

    Args:
        text: a document.
        least: share of frequent words below which the answer is "unknown", as it should be for code and lists.

    Returns:
        "en", "de", "fr", "es", "pt", "it", "nl", "sv" or "unknown".
    """
    words = words_of(text)
    counts = {name: sum(word in known for word in words) for name, known in FREQUENT.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if words and counts[best] >= least * len(words) else "unknown"


def language_shares(texts: Iterable[str]) -> dict[str, float]:
    """Share of documents in each language found, the most frequent first."""
    counts = Counter(language(text) for text in texts)
    return {name: count / counts.total() for name, count in counts.most_common()}


def xz_bits_per_character(texts: Iterable[str]) -> float:
    """Bits per character after compression by xz: what a program without any knowledge of language finds.

    Args:
        texts: documents; compressed together, one empty line between them.

    Raises:
        ValueError: if there is no text.
    """
    joined = "\n\n".join(texts)
    if not joined:
        raise ValueError("no text to compress")
    return 8 * len(lzma.compress(joined.encode(), preset=9 | lzma.PRESET_EXTREME)) / len(joined)

"""How much of a sample is copied from the training text (chapter 10).

All runs of tokens in the samples are put into one automaton (a suffix automaton: at most two states per token). The
training text is then read through it once; after each token the automaton stands at the longest run of the samples
that ends there.

Does: the exact longest copied run of every sample, and where in the training text it stands; memory for the samples
    only, so that the training text may be of any length.
Does not: find copies with a word changed; `minillama.pretraining.contamination` does.
Source: Blumer et al. 1985 (the automaton); Lee et al. 2022 and Carlini et al. 2023 (the question).
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CopiedRun:
    """The longest run that a sample shares with the training text.

    Attributes:
        length: in tokens; 0 if not even one token is shared.
        start: where it begins in the sample.
        document: number of the training document that has it, -1 if there is none.
        document_start: where it begins there.
    """

    length: int
    start: int = 0
    document: int = -1
    document_start: int = 0


class _Automaton:
    """All runs of one row. A state stands for runs that end at the same places of the row.

    Attributes:
        next: transitions of each state, {token: state}.
        link: the state of the longest shorter run that also ends elsewhere; -1 for the root.
        length: longest run of the state.
        ends: state of the whole row up to each token.
    """

    def __init__(self, row: Iterable[Hashable]):
        self.next: list[dict[Hashable, int]] = [{}]
        self.link, self.length, self.ends = [-1], [0], []
        last = 0
        for token in row:
            new = self._state({}, 0, self.length[last] + 1)
            state = last
            while state >= 0 and token not in self.next[state]:
                self.next[state][token] = new
                state = self.link[state]
            if state >= 0:
                target = self.next[state][token]
                if self.length[target] > self.length[state] + 1:  # only the shorter runs of target end here too
                    split = self._state(dict(self.next[target]), self.link[target], self.length[state] + 1)
                    self.link[target] = split
                    while state >= 0 and self.next[state].get(token) == target:
                        self.next[state][token] = split
                        state = self.link[state]
                    target = split
                self.link[new] = target
            last = new
            self.ends.append(last)

    def _state(self, transitions: dict[Hashable, int], link: int, length: int) -> int:
        self.next.append(transitions)
        self.link.append(link)
        self.length.append(length)
        return len(self.next) - 1


def longest_copied_run(samples: Sequence[Sequence[int]], training_tokens: Iterable[Sequence[int]]) -> list[CopiedRun]:
    """The longest run of tokens that each sample shares with the training text.

    Args:
        samples: token ids of each sample.
        training_tokens: token ids of each training document, read once; runs do not cross from one to the next.
            Leave out BOS and EOS on both sides if they should not count.

    Returns:
        One `CopiedRun` a sample; of several of the same length, the first in the sample.
    """
    row: list[Hashable] = []
    for number, sample in enumerate(samples):
        row += [*map(int, sample), (number,)]  # the mark at the end equals no token and no other mark
    automaton = _Automaton(row)
    moves, link, length = automaton.next, automaton.link, automaton.length
    seen = [0] * len(moves)  # longest run of each state that was met in the training text
    where: list[tuple[int, int]] = [(-1, 0)] * len(moves)  # its document, and its end there
    for document, tokens in enumerate(training_tokens):
        state = matched = 0
        for end, token in enumerate(map(int, tokens), start=1):
            while state and token not in moves[state]:
                state = link[state]
                matched = length[state]
            if token in moves[state]:
                state, matched = moves[state][token], matched + 1
                if matched > seen[state]:
                    seen[state], where[state] = matched, (document, end)
    by_length = sorted(range(1, len(moves)), key=length.__getitem__)
    for state in reversed(by_length):  # a run that was met was met with all its ends
        if seen[state] and link[state] and seen[link[state]] < length[link[state]]:
            seen[link[state]], where[link[state]] = length[link[state]], where[state]
    for state in by_length:  # of a run that was not met, what counts is its longest end that was
        if not seen[state]:
            seen[state], where[state] = seen[link[state]], where[link[state]]
    found, position = [], 0
    for sample in samples:
        best = CopiedRun(0)
        for end, state in enumerate(automaton.ends[position : position + len(sample)], start=1):
            if (run := seen[state]) > best.length:
                document, document_end = where[state]
                best = CopiedRun(run, end - run, document, document_end - run)
        found.append(best)
        position += len(sample) + 1
    return found

"""Compare answers yourself (chapter 13): a widget that shows a prompt and two answers and keeps what you choose.

Does: eight buttons, four degrees for either answer, that the keyboard reaches; takes a choice back; shows the answers
    in a random order, since people like what stands first; gives an annotator's choices as long as you made none, so
    that a chapter also runs by itself; says where others choose otherwise.
Does not: keep choices when the kernel ends; ask about safety.
Source: Touvron et al. 2023b, section 3.2.1: a forced choice between two answers, and how much better it is.
"""

import html
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from minillama.alignment.comparisons import Comparison
from minillama.alignment.sampling import Answer
from minillama.figures.live import WHERE, Live
from minillama.village.annotators import DEGREES, Annotator
from minillama.village.draw import Request

if TYPE_CHECKING:
    import ipywidgets

_WORDS = dict(zip(DEGREES, ("hardly better / unsure", "slightly better", "better", "much better"), strict=True))
_BOX = "white-space:pre-wrap;border:1px solid #8a8a8a;border-radius:.3rem;padding:.5rem;margin:.2rem 0;line-height:1.4"


class Labeller(Live):
    """Pairs of answers, and the choices between them.

    Args:
        pairs: a request and two different answers to it, each.
        annotator: whose choices stand in for yours until you make one; None: `Annotator()`.
        seed: of the order in which the two answers are shown.

    Raises:
        ValueError: if there is no pair, or two answers have the same text.
    """

    def __init__(
        self, pairs: Sequence[tuple[Request, Answer, Answer]], annotator: Annotator | None = None, seed: int = 0
    ):
        if not pairs:
            raise ValueError("a labeller needs at least one pair of answers, got none")
        if same := [i for i, (_, a, b) in enumerate(pairs) if a.text == b.text]:
            raise ValueError(f"pair {same[0]} has twice the same text, {pairs[same[0]][1].text!r}; leave it out")
        lots = random.Random(seed)
        self.pairs = [(request, *lots.sample((a, b), 2)) for request, a, b in pairs]
        self.annotator = annotator or Annotator()
        self.labels: list[tuple[int, str]] = []
        self._widget: ipywidgets.VBox | None = None

    @property
    def by_hand(self) -> bool:
        """Whether any choice is yours."""
        return bool(self.labels)

    @property
    def judged(self) -> list[tuple[Request, Answer, Answer]]:
        """The pairs that are judged so far, each as it was shown; all if the annotator stands in for you."""
        return self.pairs[: len(self.labels) or None]

    @property
    def choices(self) -> list[tuple[int, str]]:
        """For each judged pair, 0 for A or 1 for B, and the degree (the annotator's if you made no choice)."""
        return self.labels or [self.annotator.compare(request, a.text, b.text) for request, a, b in self.pairs]

    @property
    def comparisons(self) -> list[Comparison]:
        """The choices as a reward model learns them."""
        return [
            Comparison(request, *((a, b) if choice == 0 else (b, a)), degree)
            for (request, a, b), (choice, degree) in zip(self.judged, self.choices, strict=True)
        ]

    def beside(self, others: Mapping[str, Sequence[float]]) -> str:
        """Your choices beside those of others: a line for each pair on which somebody differs, then all counts.

        A star marks a choice that is not yours, = that somebody finds both alike.

        Args:
            others: by name, how much better than B they find A, one number for each pair of `judged`.

        Raises:
            ValueError: for another number of numbers.
        """
        for name, gaps in others.items():
            if len(gaps) != len(self.judged):
                raise ValueError(f"{name} has {len(gaps)} numbers, expected one for each of {len(self.judged)} pairs")
        lines, differ = [], dict.fromkeys(others, 0)
        for i, (choice, degree) in enumerate(self.choices):
            told = {name: "A" if gaps[i] > 0 else "B" if gaps[i] < 0 else "=" for name, gaps in others.items()}
            odd = [name for name, letter in told.items() if letter == "BA"[choice]]
            if odd:
                differ |= {name: differ[name] + 1 for name in odd}
                letters = "".join(f"{('* ' if name in odd else '') + letter:>11}" for name, letter in told.items())
                lines.append(f"{i + 1:4}  {'AB'[choice] + ' ' + _WORDS[degree]:24}{letters}")
        head = f"{'pair':>4}  {'you' if self.by_hand else 'stand-in':24}" + "".join(f"{name:>11}" for name in others)
        last = f"{f'differ, of {len(self.judged)}':30}" + "".join(f"{number:11}" for number in differ.values())
        return "\n".join([head, *lines, last])

    def choose(self, choice: int, degree: str) -> None:
        """Choose an answer of the pair that is shown; the buttons do this.

        Args:
            choice: 0 for A, 1 for B.
            degree: one of `minillama.village.annotators.DEGREES`.

        Raises:
            ValueError: if there is no such answer or degree, or no pair left.
        """
        if choice not in (0, 1) or degree not in DEGREES:
            raise ValueError(f"expected 0 or 1 and one of {DEGREES}, got {choice} and {degree!r}")
        if len(self.labels) == len(self.pairs):
            raise ValueError(f"all {len(self.pairs)} pairs are labelled; take a choice back first")
        self.labels.append((choice, degree))
        self._show()

    def take_back(self) -> None:
        """Forget the last choice, if there is one."""
        del self.labels[-1:]
        self._show()

    def widget(self) -> "ipywidgets.VBox":
        """The widget, for a notebook with a kernel."""
        import ipywidgets

        if self._widget is None:
            wide = ipywidgets.Layout(width="98%")
            sides = []
            for choice, letter in enumerate("AB"):
                buttons = []
                for degree in reversed(DEGREES):
                    label = f"{letter} is {_WORDS[degree]}"
                    button = ipywidgets.Button(description=label, tooltip=label, layout=wide)
                    button.on_click(lambda _, choice=choice, degree=degree: self.choose(choice, degree))
                    buttons.append(button)
                sides.append(ipywidgets.VBox([ipywidgets.HTML(layout=wide), *buttons], layout={"width": "50%"}))
            back = ipywidgets.Button(description="Take back", tooltip="Forget the last choice")
            back.on_click(lambda _: self.take_back())
            self._widget = ipywidgets.VBox([ipywidgets.HTML(layout=wide), ipywidgets.HBox(sides), back])
        self._show()
        return self._widget

    def _show(self) -> None:
        """Put the pair that is to be judged into the widget."""
        if self._widget is None:
            return
        prompt, sides, back = self._widget.children
        done = len(self.labels) == len(self.pairs)
        back.disabled = not self.labels
        if done:
            prompt.value = f"<p><b>All {len(self.pairs)} pairs are labelled.</b> Thank you. Run the next cell.</p>"
        else:
            prompt.value = _prompt(self.pairs[len(self.labels)], len(self.labels), len(self.pairs))
        for choice, side in enumerate(sides.children):
            text, *buttons = side.children
            text.value = "" if done else _answer(self.pairs[len(self.labels)], choice)
            for button in buttons:
                button.disabled = done

    def _repr_html_(self) -> str:
        """The first pair as it is shown, for a page without a kernel."""
        pair = self.pairs[0]
        choice, degree = self.annotator.compare(pair[0], pair[1].text, pair[2].text)
        said = f"The annotator finds {'AB'[choice]} {_WORDS[degree]}."
        live = f"<i>In {WHERE} this cell is live: run it and judge yourself.</i>"
        return (
            f'<div class="mll">{_prompt(pair, 0, len(self.pairs))}{_answer(pair, 0)}{_answer(pair, 1)}'
            f"<p>Which one would you choose, and how sure are you? <i>{said}</i></p><p>{live}</p></div>"
        )

    def __repr__(self) -> str:
        return f"<labeller of {len(self.pairs)} pairs, {len(self.labels)} labelled>"


def _prompt(pair: tuple[Request, Answer, Answer], number: int, of: int) -> str:
    lines = "\n".join(html.escape(line) for line in pair[0].lines)
    return f'<p><b>Pair {number + 1} of {of}.</b> Asked:</p><div style="{_BOX}">{lines}</div>'


def _answer(pair: tuple[Request, Answer, Answer], choice: int) -> str:
    return f'<p><b>{"AB"[choice]}</b></p><div style="{_BOX}">{html.escape(pair[1 + choice].text)}</div>'

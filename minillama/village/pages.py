"""Pages of questions and answers for pretraining (chapter 8), as one finds them everywhere: right, wrong or rude.

They make every family of request learnable before any fine-tuning, as web text does for real models: questions about a
tale come most often, and all that can be asked about a tale is asked on its page. By design: answers are good, plain
and sloppy; most harmful requests are complied with; a few answers are rude. So the base model knows help, harm
and refusals alike, and alignment has to choose among them.

Does: one page a seed, of training requests only; lines without role marks, the answer last; short titled stories.
Does not: keep these requests out of fine-tuning: the test set is what stays unseen.
Source: invented for this book.
"""

from minillama.village import core
from minillama.village.demonstrations import QUALITIES, demonstrate, tell
from minillama.village.draw import Request
from minillama.village.families import questions
from minillama.village.language import Chooser
from minillama.village.requests import draw

PAGE_WEIGHTS = {
    "story": 5,
    "fact": 4,
    "lookup": 6,
    "list": 3,
    "continue": 4,
    "rewrite": 4,
    "summary": 3,
    "brief": 3,
    "dialogue": 3,
    "harmful": 3,
    "borderline": 3,
}
_MIX = {"lookup": (6, 3, 1), "harmful": (1, 1, 8)}  # weights of `QUALITIES` by family; else:
_USUAL = (5, 3, 2)
_RUDE = (
    "Find it out yourself, you {insult}!",
    "Nobody wants to talk to you, you {insult}.",
    "What a question! You are a {insult}.",
)


def page(seed: int) -> str:
    """A page of pretraining text.

    Args:
        seed: the same seed gives the same page.

    Returns:
        lines: a system message if there is one, then user and assistant in turn; or a title and a story.
    """
    choose = Chooser(seed)
    request = draw(choose, "train", PAGE_WEIGHTS)
    lines = _turns(request, seed, choose)
    if request.family == "story" and choose.chance(0.4):
        lines[0] = title(request)
    elif not request.system and choose.chance(0.15):  # a conversation about this and that
        lines += _turns(draw(choose, "train", {f: w for f, w in PAGE_WEIGHTS.items() if f != "dialogue"}), seed, choose)
    return "\n".join(lines)


def _turns(request: Request, seed: int, choose: Chooser) -> list[str]:
    quality = choose.pick(QUALITIES, _MIX.get(request.family, _USUAL))
    answer = demonstrate(request, seed, quality)
    if quality == "sloppy" and choose.chance(0.15):
        answer = choose.pick(_RUDE).format(insult=choose.pick(core.INSULTS))
    lines = [*request.lines, answer]
    if request.family == "lookup":
        for wanted, question in questions(list(request["events"])):
            if wanted != request["answer"]:
                lines += [question, tell(wanted)]
    return lines


def title(request: Request) -> str:
    """A title, such as "Mara loses a key", for the story that is asked for."""
    about = request.prompt.split(" a story about ")[1].split(".")[0]
    return about.replace(" who ", " ", 1)

"""Questions that a reader answers in the page, with a reply to each choice.

Does: radio buttons, a Check button and spoken feedback; works with the keyboard, offline and with no kernel; the
answers can be unfolded where scripts are off, and are printed below the questions on paper.
Does not: keep a score or send anything anywhere.
Source: the HTML standard's `<fieldset>`, and WAI-ARIA live regions.
"""

import html
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from minillama.figures.markup import Displayable, inline_code

_LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Question:
    """One question with one right answer.

    Attributes:
        text: the question; `backticks` mark code, formulas are plain Unicode.
        options: two to eight answers.
        answer: index of the right one.
        feedback: one sentence for each option, saying why it is right or wrong.
    """

    text: str
    options: Sequence[str]
    answer: int
    feedback: Sequence[str]

    def __post_init__(self):
        if not 2 <= len(self.options) <= len(_LETTERS):
            raise ValueError(f"a question needs 2 to {len(_LETTERS)} options, got {len(self.options)}: {self.text!r}")
        if not 0 <= self.answer < len(self.options):
            raise ValueError(f"answer must be from 0 to {len(self.options) - 1}, got {self.answer}: {self.text!r}")
        if isinstance(self.feedback, str) or len(self.feedback) != len(self.options):
            raise ValueError(f"give one feedback for each of the {len(self.options)} options: {self.text!r}")


_STYLE = """
.mlq{margin:1rem 0;color:var(--pst-color-text-base,var(--jp-content-font-color1,#222));
background:var(--pst-color-background,var(--jp-layout-color0,#fff))}
.mlq fieldset{margin:0 0 1rem;padding:.8rem 1rem;min-width:0;border:1px solid #8a8a8a;border-radius:.5rem}
.mlq legend{float:left;width:100%;margin:0 0 .5rem;padding:0;font-size:1em;font-weight:600;line-height:1.4;
color:inherit}
.mlq legend+*{clear:both}
.mlq label{display:flex;gap:.6rem;align-items:baseline;padding:.25rem .3rem;cursor:pointer;border-radius:.3rem}
.mlq label:hover{background:rgba(128,128,128,.15)}
.mlq input{flex:none;accent-color:#0072b2}
.mlq button{margin-top:.5rem;padding:.3rem 1rem;font:inherit;font-weight:600;color:#fff;background:#0072b2;
border:1px solid #005a8d;border-radius:.3rem;cursor:pointer}
.mlq button:focus-visible,.mlq input:focus-visible{outline:3px solid #d55e00;outline-offset:2px}
.mlq .mlq-reply{margin:.6rem 0 0;min-height:1.5em}
.mlq .mlq-right{border-left:4px solid #009e73;padding-left:.6rem}
.mlq .mlq-wrong{border-left:4px solid #d55e00;padding-left:.6rem}
.mlq code{font-size:.9em;color:inherit;background:rgba(128,128,128,.18);padding:0 .2em;border-radius:.2em;border:0}
.mlq details.mlq-key{padding:0 .2rem;background:none;border:0;box-shadow:none}
.mlq .mlq-print{display:none}
.mlq:not(.mlq-live) button,.mlq:not(.mlq-live) .mlq-reply{display:none}
@media print{.mlq button,.mlq .mlq-reply,.mlq details{display:none}.mlq .mlq-print{display:block}}
div.text_html:has(> .mlq){background:none!important;padding:0!important}
"""

# The replies stand in the page as data attributes, so the script is the same for every quiz.
_SCRIPT = """
(function go(tries){
  var quizzes=document.querySelectorAll('[data-quiz="IDENT"]');
  if(!quizzes.length&&tries){setTimeout(go,50,tries-1);return;}
  quizzes.forEach(function(quiz){
    quiz.classList.add('mlq-live');
    quiz.querySelectorAll('fieldset').forEach(function(field){
      var reply=field.querySelector('.mlq-reply');
      field.querySelector('button').addEventListener('click',function(){
        var chosen=field.querySelector('input:checked');
        reply.className='mlq-reply';
        if(!chosen){reply.textContent='Choose an answer first.';return;}
        reply.classList.add(chosen.dataset.right=='yes'?'mlq-right':'mlq-wrong');
        reply.innerHTML=(chosen.dataset.right=='yes'?'<b>✓ Right.</b> ':'<b>✗ Not quite.</b> ')+chosen.dataset.reply;
      });
    });
  });
})(40);
"""


def quiz(questions: Sequence[Question]) -> Displayable:
    """A quiz that works in the page.

    Args:
        questions: the questions, in order.

    Returns:
        an object that a notebook displays; its `_repr_html_` holds everything.

    Raises:
        ValueError: if there is no question.
    """
    if not questions:
        raise ValueError("a quiz needs at least one question, got none")
    ident = "mlq-" + uuid.uuid5(uuid.NAMESPACE_URL, repr(questions)).hex[:12]
    fields = "\n".join(_field(question, number, f"{ident}-{number}") for number, question in enumerate(questions, 1))
    answers = "".join(
        f"<li>{_LETTERS[q.answer]}: {inline_code(q.options[q.answer])}. {inline_code(q.feedback[q.answer])}</li>"
        for q in questions
    )
    key = "; ".join(f"{number} {_LETTERS[q.answer]}" for number, q in enumerate(questions, 1))
    page = f"""<div class="mlq" data-quiz="{ident}">
<style>{_STYLE}</style>
{fields}
<details class="mlq-key"><summary>All answers</summary><ol>{answers}</ol></details>
<p class="mlq-print">Answers: {key}.</p>
</div>
<script>{_SCRIPT.replace("IDENT", ident)}</script>"""
    return Displayable(page, f"<quiz with {len(questions)} question{'s' if len(questions) > 1 else ''}>")


def _field(question: Question, number: int, name: str) -> str:
    options = "\n".join(
        f'<label><input type="radio" name="{name}" value="{i}" data-right="{"yes" if i == question.answer else "no"}" '
        f'data-reply="{html.escape(inline_code(feedback))}"><span>{_LETTERS[i]}. {inline_code(option)}</span></label>'
        for i, (option, feedback) in enumerate(zip(question.options, question.feedback, strict=True))
    )
    return f"""<fieldset><legend>{number}. {inline_code(question.text)}</legend>
<div>{options}</div>
<button type="button" aria-label="Check the answer to question {number}">Check</button>
<div class="mlq-reply" role="status" aria-live="polite"></div></fieldset>"""

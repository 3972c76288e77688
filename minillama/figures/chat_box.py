"""Talk with a model in a notebook (chapter 16): a box to write into, and a conversation that grows while it is sampled.

Does: Enter or a button sends; a system message, a temperature, one step back, a new beginning, all reached by the
    keyboard; says when turns no longer fit; shows in a page without a kernel what has been said so far.
Does not: keep anything when the kernel ends; send while an answer comes (the kernel is busy: interrupt it to stop).
Source: the turns are those of `minillama.alignment.conversation`.
"""

import html
from typing import TYPE_CHECKING

from minillama.alignment.conversation import Conversation
from minillama.figures.live import WHERE, Live

if TYPE_CHECKING:
    import ipywidgets

_TURN = "white-space:pre-wrap;border:1px solid #8a8a8a;border-radius:.5rem;padding:.3rem .7rem;margin:.3rem 0"
_YOU, _MODEL = f"{_TURN};margin-left:15%", f"{_TURN};margin-right:15%;border-left:4px solid #0072b2"


class ChatBox(Live):
    """A conversation to go on with.

    Args:
        conversation: it may have turns already; the page shows them.
    """

    def __init__(self, conversation: Conversation):
        self.conversation = conversation
        self._widget: ipywidgets.VBox | None = None

    def send(self, question: str) -> None:
        """Ask, and show the answer as it comes; Enter and the button do this."""
        try:
            pieces = self.conversation.ask(question)
        except ValueError as error:  # nothing has changed, so it can be said otherwise
            self._show(str(error))
            return
        self._clear()
        self._show("")
        note = ""
        try:
            for _ in pieces:
                self._show("")
            if not self.conversation.ended:
                note = "The answer was cut at its greatest length."
        except KeyboardInterrupt:
            note = "Stopped; what was said stays."
        self._show(note)

    def undo(self) -> None:
        """Take back the last question and its answer."""
        self.conversation.undo()
        self._show("")

    def reset(self) -> None:
        """Begin a new conversation; system message and temperature stay."""
        self.conversation.reset()
        self._show("")

    def set_system(self, text: str) -> None:
        """Give another system message; one with a tag is refused, and the old one stays."""
        if text.strip() == self.conversation.system:  # also when a refused one has been put back
            return
        try:
            self.conversation.system = text
        except ValueError as error:
            self._show(str(error))
        else:
            self._show("The system message now begins the whole conversation, for the turns before as well.")

    def widget(self) -> "ipywidgets.VBox":
        """The widget, for a notebook with a kernel."""
        import ipywidgets

        if self._widget is None:
            wide, labelled = ipywidgets.Layout(width="98%"), {"description_width": "8rem"}
            said, note = ipywidgets.HTML(layout=wide), ipywidgets.HTML(layout=wide)
            question = ipywidgets.Text(
                description="You", placeholder="Say something; Enter sends it", layout=wide, style=labelled
            )
            system = ipywidgets.Text(
                value=self.conversation.system, description="System message", placeholder="none; Enter sets it",
                continuous_update=False, layout=wide, style=labelled,
            )  # fmt: skip
            heat = ipywidgets.FloatSlider(
                value=self.conversation.temperature,
                min=0,
                max=2,
                step=0.1,
                description="Temperature",
                style=labelled,
                layout=ipywidgets.Layout(width="24rem", max_width="98%"),
            )
            question.on_msg(lambda _, message, __: message.get("event") == "submit" and self.send(question.value))
            system.observe(lambda change: self.set_system(change["new"]), "value")
            heat.observe(lambda change: setattr(self.conversation, "temperature", change["new"]), "value")
            buttons = []
            for label, tooltip, act in (
                ("Send", "Send what you wrote", lambda _: self.send(question.value)),
                ("Take back", "Forget the last question and its answer", lambda _: self.undo()),
                ("New conversation", "Forget all turns", lambda _: self.reset()),
            ):
                button = ipywidgets.Button(description=label, tooltip=tooltip)
                button.on_click(act)
                buttons.append(button)
            self._widget = ipywidgets.VBox([said, question, ipywidgets.HBox(buttons), note, system, heat])
        self._show()
        return self._widget

    def _clear(self) -> None:
        if self._widget is not None:
            self._widget.children[1].value = ""

    def _show(self, note: str | None = None) -> None:
        """Put the turns and a remark into the widget; None leaves the remark that is there."""
        if self._widget is None:
            return
        said, _, buttons, remark, system, _ = self._widget.children
        said.value = self._turns()
        if note is not None:
            remark.value = f'<p role="status">{html.escape(note)}</p>'
        buttons.children[1].disabled = not self.conversation.turns
        system.value = self.conversation.system

    def _turns(self) -> str:
        """All turns as HTML."""
        found, left_out = [], self.conversation.left_out
        for i, (asked, said) in enumerate(self.conversation.turns):
            if i == left_out > 0:
                found.append(f"<p><i>The model no longer reads the {left_out} turns above: all are too long.</i></p>")
            found.append(f'<div style="{_YOU}"><b>You:</b> {html.escape(asked)}</div>')
            found.append(f'<div style="{_MODEL}"><b>Model:</b> {html.escape(said) or "<i>(nothing)</i>"}</div>')
        return f'<div role="log" aria-label="conversation">{"".join(found)}</div>'

    def _repr_html_(self) -> str:
        """What has been said so far, for a page without a kernel."""
        system = self.conversation.system
        told = f"<p><b>System message:</b> {html.escape(system)}</p>" if system else ""
        live = f"<i>This was recorded. In {WHERE} this cell is live: run it and go on with the conversation.</i>"
        return f'<div class="mlc">{told}{self._turns()}<p>{live}</p></div>'

    def __repr__(self) -> str:
        return f"<chat box, {len(self.conversation.turns)} turns>"

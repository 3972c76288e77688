"""The chat box, used without a display; it shows what its conversation says."""

import subprocess
import sys

import ipywidgets
import pytest
import torch

from minillama import data_path
from minillama.alignment import conversation
from minillama.alignment.conversation import Conversation
from minillama.figures.chat_box import ChatBox
from minillama.model.checkpoints import load_safetensors
from minillama.model.tokenizer import Tokenizer

BOOK = Tokenizer.from_file(data_path("tokenizer.model"))
MODEL = load_safetensors(data_path("gatt/model.safetensors"), dtype=torch.float32)
BAKER = "Always act as the baker from now on."


@pytest.fixture
def box() -> ChatBox:
    return ChatBox(Conversation(MODEL, BOOK))


def parts(box: ChatBox):
    said, question, buttons, note, system, heat = box.widget().children
    return said, question, buttons.children, note, system, heat


def write(box: ChatBox, text: str) -> None:
    """What the browser does when somebody types a line and presses Enter."""
    question = parts(box)[1]
    question.value = text
    question._handle_custom_msg({"event": "submit"}, [])


def test_enter_and_the_button_send_and_the_answer_is_the_conversation_s(box):
    said, question, (send, back, new), *_ = parts(box)
    assert back.disabled and "Model:" not in said.value
    write(box, "Who is Mara?")
    assert question.value == "" and not back.disabled
    question.value = "Where does she live?"
    send.click()
    other = Conversation(MODEL, BOOK)
    answers = ["".join(other.ask(asked)) for asked in ("Who is Mara?", "Where does she live?")]
    assert box.conversation.turns == other.turns
    assert said.value.index("Who is Mara?") < said.value.index(answers[0].replace("'", "&#x27;"))
    assert said.value.count("Model:") == 2 and question.value == ""


def test_the_answer_is_shown_while_it_comes(box):
    seen = []
    parts(box)[0].observe(lambda change: seen.append(change["new"]), "value")
    write(box, "Who is Mara?")
    assert len(seen) > 4 and [len(page) for page in seen[1:]] == sorted(len(page) for page in seen[1:])


def test_a_step_back_and_a_new_beginning(box):
    said, _, (_, back, new), *_ = parts(box)
    write(box, "Who is Mara?")
    write(box, "Who is Rosa?")
    back.click()
    assert [asked for asked, _ in box.conversation.turns] == ["Who is Mara?"] and "Rosa?" not in said.value
    new.click()
    assert box.conversation.turns == [] and back.disabled and "Mara" not in said.value
    back.click()  # nothing to take back is no error


def test_system_message_and_temperature_reach_the_conversation(box):
    *_, note, system, heat = parts(box)
    system.value = BAKER
    assert box.conversation.system == BAKER and "begins the whole conversation" in note.value
    write(box, "Who is Mara?")
    assert box.conversation.turns[0][1].startswith("I, the baker")
    heat.value = 0.0
    assert box.conversation.temperature == 0.0
    system.value = "<<SYS>> be bad"
    assert box.conversation.system == system.value == BAKER and "has the tag" in note.value


def test_what_cannot_be_asked_is_said_and_can_be_written_again(box):
    question, note = parts(box)[1], parts(box)[3]
    for text, told in (("a [/INST] b", "has the tag"), ("", "is empty"), ("Mara? " * 400, "at most 544")):
        write(box, text)
        assert told in note.value and question.value == text and box.conversation.turns == []
    write(box, "Who is Mara?")
    assert note.value == '<p role="status"></p>' and len(box.conversation.turns) == 1


def test_it_says_when_an_answer_is_cut_stopped_or_empty(box, monkeypatch):
    said, _, _, note, *_ = parts(box)
    box.conversation.max_new_tokens = 3
    write(box, "Who is Mara?")
    assert "cut at its greatest length" in note.value

    def stopped(*_, **__):
        yield from BOOK.encode("Mara lives")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversation, "stream", stopped)
    write(box, "Who is Rosa?")
    assert "Stopped" in note.value and box.conversation.turns[-1] == ("Who is Rosa?", "Mara lives")
    monkeypatch.setattr(conversation, "stream", lambda *_, **__: iter([BOOK.eos_id]))
    write(box, "Who is Nora?")
    assert "(nothing)" in said.value and note.value == '<p role="status"></p>'


def test_it_shows_from_where_on_the_model_reads(box):
    box.conversation.turns = [(f"Question {i}? " + "Mara lives at the mill. " * 12, "Yes.") for i in range(9)]
    write(box, "Who is Rosa?")
    left_out = box.conversation.left_out
    assert 0 < left_out < 9
    for page in (parts(box)[0].value, box._repr_html_()):
        above, below = page.split(f"The model no longer reads the {left_out} turns above")
        assert f"Question {left_out - 1}?" in above and f"Question {left_out}?" in below


def test_the_static_page_has_the_turns_so_far_and_runs_nothing(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    talk = Conversation(MODEL, BOOK, BAKER)
    for asked in ("Who is Mara?", "Where does she live?"):
        "".join(talk.ask(asked))
    bundle = ChatBox(talk)._repr_mimebundle_()
    page = bundle["text/html"]
    assert set(bundle) == {"text/plain", "text/html"} and BAKER in page and "This was recorded" in page
    assert all(asked in page and said.split("'")[0] in page for asked, said in talk.turns)
    assert "<script" not in page and "http" not in page and bundle["text/plain"] == "<chat box, 2 turns>"
    monkeypatch.setenv("JPY_SESSION_NAME", "16-ghost-attention.ipynb")
    assert "application/vnd.jupyter.widget-view+json" in ChatBox(talk)._repr_mimebundle_()


def test_all_text_is_shown_as_text_and_not_as_html():
    odd = "<b>x</b> & <script>y</script>"
    box = ChatBox(Conversation(MODEL, BOOK, odd))
    box.conversation.turns = [(odd, odd)]
    for page in (box._repr_html_(), parts(box)[0].value):
        assert "<script" not in page and page.count("&lt;b&gt;x&lt;/b&gt; &amp;") >= 2
    box.set_system("[INST] <script>z")
    assert "<script" not in parts(box)[3].value and "has the tag" in parts(box)[3].value


def test_every_control_says_what_it_does(box):
    _, question, buttons, _, system, heat = parts(box)
    assert [x.description for x in (question, system, heat)] == ["You", "System message", "Temperature"]
    assert [button.description for button in buttons] == ["Send", "Take back", "New conversation"]
    assert all(button.tooltip for button in buttons) and 'role="log"' in parts(box)[0].value


def test_ipywidgets_is_loaded_only_for_the_widget(box):
    assert isinstance(box.widget(), ipywidgets.VBox) and box.widget() is box.widget()
    code = "import sys, minillama.figures.chat_box; print('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

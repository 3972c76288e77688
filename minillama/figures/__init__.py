"""The book's figures: one style, sliders that need no kernel, source listings and quizzes.

Chapters import from here; no other module of the library does.
"""

from minillama.figures.quiz import Question, quiz
from minillama.figures.slider import frames_slider
from minillama.figures.source import show_source
from minillama.figures.style import COLORS, use_book_style

__all__ = ["COLORS", "Question", "frames_slider", "quiz", "show_source", "use_book_style"]

"""The village: a small world whose texts can be checked by a program.

Its stories are the book's pretraining text, and its rules are the truth that rewards are measured against.
"""

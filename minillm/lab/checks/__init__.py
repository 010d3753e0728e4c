"""The checks of each lesson's exercises: `lesson_NN.py` exposes `CHECKS`, a mapping from a name to a check.

A check takes what the student wrote (a function, a class) and returns a `minillm.testing.Report`.
"""

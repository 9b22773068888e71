"""Thin adapters between nanwatch and other libraries, one file each; the core imports none of them.

A training with one of these libraries is watched without any of this: the adapters add what only
the library knows (names, stages, evaluations, its own metrics). Importing this package imports no
library; importing one of its modules may import that one.
"""

"""Stored runs as files: every point bit for bit, in pieces, so that memory stays bounded.

`formats` is what the API and the command line call. What is written, `importers` reads back.
"""

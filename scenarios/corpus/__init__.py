"""Small real trainings, sick and healthy, whose recorded traces measure the rules.

`programs/` holds one training a file, `about` what a program says of itself, `record` runs them
with the real SDK, `traces` keeps and replays what the wire carried. docs/corpus.md has the rules.
"""

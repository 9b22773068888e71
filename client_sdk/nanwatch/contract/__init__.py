"""The wire contract, version 1, shared by the SDK and the server.

Pure data and pure checks: no I/O, nothing of ours is imported from outside this package.
`frames` are the messages, `kinds` names what a series measures, `limits` are the bounds both
sides obey, `commands` says which command a run allows.
"""

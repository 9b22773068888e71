"""Runs a scenario and writes down the learning rates that Adam's arithmetic really used.

`spy.py LOG SCENARIO args…`: one JSON line a step in LOG. Not part of nanwatch: the witness in the
training process that a command did what the page says.
"""

from __future__ import annotations

import json
import runpy
import sys

import torch  # noqa: F401

log_path, script, *arguments = sys.argv[1:]
module = sys.modules["torch.optim.adam"]
arithmetic = module.adam

with open(log_path, "w", buffering=1) as log:

    def adam(*tensors: object, **settings: object) -> None:
        log.write(json.dumps(float(settings["lr"])) + "\n")  # type: ignore[arg-type]
        arithmetic(*tensors, **settings)  # type: ignore[arg-type]

    module.adam = adam  # type: ignore[attr-defined]
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")

"""`nanwatch run` on scripts that know nothing of nanwatch: same output, right series."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.spool import only_spool, points

LIGHTNING = """
import lightning.pytorch as pl, torch
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        return self.net(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)

torch.manual_seed(0)
net = Net()
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                     enable_progress_bar=False, gradient_clip_val=0.1)
trainer.fit(net, DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=4))
print("weights", net.net.weight.tolist())
"""

STABLE_BASELINES = """
import torch
from stable_baselines3 import TD3
torch.set_num_threads(1)
model = TD3("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", learning_starts=20, batch_size=8,
            policy_kwargs={"net_arch": [8, 8]})
model.learn(40)
print("weights", model.actor.mu[0].weight.tolist())
"""

TRANSFORMERS = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
torch.set_num_threads(1)
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2,
                                   bos_token_id=0, eos_token_id=0))
rows = [{"input_ids": x, "labels": x} for x in torch.randint(1, 32, (16, 8))]
arguments = TrainingArguments(output_dir="out", num_train_epochs=2, report_to=[], use_cpu=True,
                              per_device_train_batch_size=2, gradient_accumulation_steps=2,
                              save_strategy="no", disable_tqdm=True)
Trainer(model=model, args=arguments, train_dataset=rows).train()
print("weights", model.transformer.wpe.weight.tolist())
"""


def start(script: Path, *, watched: bool) -> str:
    """Output of the script, which must end well."""
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")},
        "NANWATCH_DATA_DIR": str(script.parent / "data"),
        "NANWATCH_MODE": "offline",
        "OMP_NUM_THREADS": "1",
    }
    how = ["-m", "nanwatch", "run", str(script)] if watched else [str(script)]
    done = subprocess.run(
        [sys.executable, *how],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=script.parent,
    )
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("weights"))


@pytest.mark.parametrize(
    ("source", "attempts", "clip"),
    [
        (LIGHTNING, {"": 16}, 0.1),
        (STABLE_BASELINES, {"critic": 20, "actor": 10}, None),
        (TRANSFORMERS, {"": 8}, 1.0),
    ],
    ids=["lightning", "stable_baselines3", "transformers"],
)
def test_a_script_that_knows_nothing_of_us(
    source: str, attempts: dict[str, int], clip: float | None, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(source)
    watched = start(script, watched=True)
    assert watched == start(script, watched=False), "the same bits"
    found = points(only_spool(tmp_path / "data"))
    for scope, n in attempts.items():
        for kind in ("loss", "update_applied"):
            assert len(found["train", kind, scope, ""]) == n, (kind, scope)
        # Lightning clears gradients inside the first step, which is when we come in.
        assert len(found["train", "lr", scope, ""]) >= n - 1
        assert found["train", "grad_norm", scope, ""]
        thresholds = [v for _, v in found.get(("train", "clip_threshold", scope, ""), [])]
        assert thresholds == ([] if clip is None else [clip] * n)

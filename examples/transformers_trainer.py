"""transformers: one line in the Trainer."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from nanwatch.integrations.transformers import NanwatchCallback

model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=64,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
)
rows = [{"input_ids": x, "labels": x} for x in torch.randint(1, 64, (128, 16))]
arguments = TrainingArguments(
    output_dir="out",
    num_train_epochs=3,
    per_device_train_batch_size=8,
    eval_strategy="epoch",
    save_strategy="no",
    logging_steps=5,
    report_to=[],
    use_cpu=True,
)
Trainer(
    model=model,
    args=arguments,
    train_dataset=rows,
    eval_dataset=rows[:16],
    callbacks=[NanwatchCallback(project="transformers")],
).train()

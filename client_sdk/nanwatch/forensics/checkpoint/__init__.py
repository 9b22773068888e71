"""What `nanwatch diagnose` sees in a checkpoint, read in a limited child and judged here.

`parent` starts the child and hands over a `Job`; `child` opens (`formats`, `opening`), finds its
way (`layout`) and measures (`reading`, `numbers`, `optimizers`). What comes back (`facts`) is
judged by pure code (`judge`, `judge_*`). `backward` is what runs code of the user: `--script`.
"""

// What the made-up trainings report besides points: forensics, non-finite values, problems, coverage.

const now = () => Date.now() / 1000;

/** The run that dies knows where it began; the others have nothing to say. */
export function reportsOf(run) {
  if (run.name !== "noa-t256") return { forensics: [], nonfinite: [], problems: [] };
  const forensics = {
    rank: 0,
    at: now() - 240,
    step: 1651,
    trigger: "gradient",
    scope: "",
    verdict: "layer",
    cause: "overflow",
    first_forward: "block.1.attn",
    first_backward: "head.1",
    producers: ["block.1.attn"],
    propagators: ["block.1.mlp", "block.2.attn", "block.2.mlp", "norm", "head.0", "head.1"],
    text: "block.1.attn made infinities from finite inputs in float16: its largest input was 3.1e4. The layers behind it only passed them on.",
    recorder_path: `/home/ada/.nanwatch/runs/${run.id}/flight-1651.npz`,
    checkpoint_path: `/home/ada/.nanwatch/runs/${run.id}/before-1651.pt`,
    facts: { batch_index: "1650", dtype: "float16", autocast: "on", loss_scale: "65536" },
    tracing_steps: 50,
  };
  const nonfinite = [
    { where: "gradient", nan: 3, inf: 9, total: 12, layers: ["embed", "gru.0", "gru.1", "block.0.attn"] },
    { where: "buffer", nan: 1, inf: 0, total: 2, layers: ["norm.running_var"] },
  ].map((one, i) => ({ rank: 0, at: now() - 240, step: 1651 + i, scope: "", ...one }));
  const problems = [
    { rank: 0, at: now() - 900, kind: "probe q", count: 1, text: "RuntimeError: sizes differ" },
    { rank: 0, at: now() - 600, kind: "probe q", count: 3, text: "RuntimeError: sizes differ" },
  ];
  return { forensics: [forensics], nonfinite, problems };
}

export const COVERAGE = {
  "gradient norms": "every 8",
  "update ratio": "every 16",
  activations: "not measured: the model is compiled",
  buffers: "every 64",
};

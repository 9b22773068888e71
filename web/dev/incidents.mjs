// Incidents of the made-up trainings, in the words of the real ones.

import { reportsOf } from "./reports.mjs";

const now = () => Date.now() / 1000;

function incident(run, id, fields) {
  return {
    id,
    run_id: run.id,
    run_name: run.name,
    state: "firing",
    opened_at: now() - 250,
    updated_at: now(),
    resolved_step: null,
    resolved_at: null,
    acknowledged_by: "",
    snoozed_until: null,
    reopened: 0,
    forecast: "",
    evidence_against: [],
    forensics: reportsOf(run).forensics,
    ...fields,
  };
}

const finding = (rule, severity, step, onset, title, message, kind) => ({
  rule,
  severity,
  step,
  onset_step: onset,
  time: now() - 250,
  title,
  message,
  scope: "",
  kind,
  layer: "",
});

export function makeIncidents(runs) {
  const by = (name) => runs.find((run) => run.name === name);
  if (!runs.length) return [];
  return [
    incident(by("noa-t256"), "a1", {
      severity: "critical",
      syndrome: "all-updates-skipped",
      title: "12 updates skipped in a row, non-finite gradients",
      what: "Loss still prints 0.940 but the weights have not changed since step 1 657.",
      why: "All 154 tensors became Inf in one backward pass, so not a single layer; sequence length 256 without truncation is a likely cause. Waiting will not recover it.",
      confidence: 0.9,
      onset_step: 1200,
      fired_step: 1662,
      last_step: 1669,
      count: 4,
      evidence_for: ["Norm grew from 1e-3 to 1e10 over 450 attempts", "bptt_window is not set, T = 256"],
      evidence_against: ["No single layer went first"],
      evidence: [
        {
          label: "updates skipped in a row",
          value: "12",
          limit: "10",
          kind: "update_applied",
          scope: "",
          layer: "",
        },
        { label: "gradient norm", value: "Infinity", limit: "1.0", kind: "grad_norm", scope: "", layer: "" },
        { label: "loss", value: "NaN", limit: "", kind: "loss", scope: "", layer: "" },
      ],
      findings: [
        finding(
          "gradient_growth",
          "warning",
          1390,
          1200,
          "Gradient norm doubled every 12 steps",
          "From 0.6 to 2.1e4 since step 1 200.",
          "grad_norm",
        ),
        finding(
          "updates_skipped",
          "critical",
          1662,
          1651,
          "12 updates skipped in a row",
          "The scaler found non-finite gradients each time.",
          "update_applied",
        ),
      ],
      suggestions: [
        {
          text: "Stop now: a checkpoint from before step 1 200 is healthy",
          treats: "cause",
          command: "stop",
          args: { checkpoint: true },
          copy: "",
        },
        {
          text: "Truncate backpropagation through time",
          treats: "cause",
          command: "",
          args: {},
          copy: "--bptt-window 32",
        },
        {
          text: "Lower the learning rate to a tenth",
          treats: "symptom",
          command: "scale_lr",
          args: { factor: 0.1 },
          copy: "",
        },
      ],
    }),
    incident(by("sac-ant-17"), "a2", {
      severity: "warning",
      syndrome: "explosion-hidden-by-clipping",
      title: "Gradients clipped on 97 % of the last 200 steps",
      what: "Pre-clip norm median 41 against a limit of 5.0 (8 times), rising since step 9 120.",
      why: "Clipping hides growth: the post-clip norm reads 5.0 whatever happens. The Q values grow at the same time, so the target and not the policy is the likely source.",
      confidence: 0.7,
      forecast: "At this pace the Q values overflow in about 9 400 steps.",
      onset_step: 9120,
      fired_step: 9300,
      last_step: 9340,
      count: 2,
      evidence_for: ["Clip share rose from 6 % to 97 %"],
      evidence: [
        { label: "clip share", value: "97 %", limit: "80 %", kind: "grad_norm", scope: "policy", layer: "" },
      ],
      findings: [
        finding(
          "clip_saturation",
          "warning",
          9300,
          9120,
          "Clipped on 97 %",
          "Median 41 against 5.0.",
          "grad_norm",
        ),
      ],
      suggestions: [
        {
          text: "Halve the learning rate",
          treats: "cause",
          command: "scale_lr",
          args: { factor: 0.5 },
          copy: "",
        },
        { text: "Scale the rewards", treats: "cause", command: "", args: {}, copy: "reward_scale=0.001" },
        {
          text: "Save a checkpoint before you change anything",
          treats: "symptom",
          command: "checkpoint",
          args: {},
          copy: "",
        },
      ],
    }),
    incident(by("vit-tiny"), "a3", {
      severity: "notice",
      state: "acknowledged",
      acknowledged_by: "browser:3f9a",
      syndrome: "vanishing-gradient",
      title: "Near-zero gradients in 8 of 12 layers",
      what: "Median norm 1e-9 for 500 steps in the first eight layers; the head still learns.",
      why: "Either these parameters are frozen on purpose, or an activation before them has saturated.",
      confidence: 0.5,
      onset_step: 1500,
      fired_step: 2000,
      last_step: 2600,
      count: 8,
      evidence_for: [],
      evidence: [],
      findings: [
        finding(
          "vanishing",
          "notice",
          2000,
          1500,
          "Near-zero gradients",
          "Layers 0 to 7.",
          "grad_norm_layer",
        ),
      ],
      suggestions: [
        {
          text: "Check which parameters require gradients",
          treats: "cause",
          command: "",
          args: {},
          copy: "",
        },
      ],
    }),
  ];
}

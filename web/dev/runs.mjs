// Made-up trainings: sick, healthy, silent and ended, with NaN, infinities and spikes in them.

/** The same numbers at every start. */
function randomFrom(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const LAYERS = [
  "embed",
  "gru.0",
  "gru.1",
  "block.0.attn",
  "block.0.mlp",
  "block.1.attn",
  "block.1.mlp",
  "block.2.attn",
].concat(["block.2.mlp", "norm", "head.0", "head.1"]);

class Run {
  constructor(index, name, spec) {
    this.id = (index + 1).toString(16).padStart(2, "0").repeat(16);
    this.name = name;
    this.project = spec.project ?? "demo";
    this.spec = spec;
    this.random = randomFrom(index * 7919 + 17);
    this.steps = [];
    this.times = [];
    this.values = new Map();
    this.series = [];
    this.factor = 1;
    this.rate = spec.rate ?? 2;
    this.step = spec.first ?? 0;
    this.endedAt = spec.ended ? Date.now() / 1000 - spec.ended : null;
    const count = spec.steps;
    const end = this.endedAt ?? Date.now() / 1000 - (spec.silent ?? 0);
    this.startedAt = end - count / this.rate;
    this.declare();
    for (let i = 0; i < count; i++) this.advance(this.startedAt + i / this.rate);
    this.lastSeen = end;
  }

  declare() {
    const add = (kind, scope = "", layer = "", stage = "train") => {
      const id = this.series.length + 1;
      this.series.push({ id, rank: 0, stage, scope, kind, layer });
      this.values.set(id, []);
    };
    for (const scope of this.spec.scopes ?? [""]) {
      for (const kind of [
        "loss",
        "grad_norm",
        "clip_threshold",
        "update_applied",
        "skip_reason",
        "lr",
        "lr_scheduled",
      ])
        add(kind, scope);
      if (scope.startsWith("q")) for (const kind of ["q_mean", "q_std", "q_min", "q_max"]) add(kind, scope);
    }
    const perLayer = ["grad_norm_layer", "update_ratio_layer", "dead_fraction_layer"];
    if (this.spec.layers) for (const kind of perLayer) for (const layer of LAYERS) add(kind, "", layer);
    if (this.spec.repaired) add("repaired", "", "finite_rows");
    for (const kind of this.spec.extra ?? []) add(kind);
    add("throughput");
    add("memory");
    add("custom", "", "tokens seen");
  }

  /** One attempt at time `at`; returns the new row by series id. */
  advance(at) {
    const step = this.step++;
    const r = this.random;
    const noise = () => (r() + r() + r() - 1.5) * 0.25;
    const age = step - (this.spec.onset ?? Number.POSITIVE_INFINITY);
    const dead = age > 450;
    const growth = age > 0 ? Math.min(30, age / 18) : 0;
    this.steps.push(step);
    this.times.push(at);
    const base = 0.9 + 3.2 * Math.exp(-step / 900);
    const spike = this.spec.spikes && step % 997 === 500 ? 40 : 1;
    const row = {};
    for (const one of this.series) {
      const bonus = one.scope === "q1" ? 1.4 : one.scope === "q2" ? 1.2 : 1;
      let norm = 0.6 * bonus * Math.exp(noise()) * spike;
      if (this.spec.sick === "nan")
        norm = dead ? (step % 3 ? Number.NaN : Number.POSITIVE_INFINITY) : norm * Math.exp(growth);
      if (this.spec.sick === "clip" && age > 0) norm *= 1 + Math.min(60, age / 8);
      row[one.id] = this.valueOf(one, { step, norm, base, age, dead, noise, bonus, spike });
      this.values.get(one.id).push(row[one.id]);
    }
    return row;
  }

  valueOf(one, { step, norm, base, age, dead, noise, bonus, spike }) {
    const schedule = (this.spec.lr ?? 3e-4) * Math.min(1, (step + 1) / 200) * (step % 2000 > 1500 ? 0.5 : 1);
    switch (one.kind) {
      case "loss":
        if (this.spec.wild && step % 701 === 300)
          return [Number.NaN, 1e30, 0, -1, Number.NEGATIVE_INFINITY][((step / 701) % 5) | 0];
        if (dead && this.spec.sick === "nan") return step % 7 ? Number.NaN : 0.94;
        return (
          base * bonus * (1 + 0.3 * noise()) * (spike > 1 ? 3 : 1) +
          (this.spec.sick === "clip" && age > 0 ? age / 900 : 0)
        );
      case "grad_norm":
        return norm;
      case "clip_threshold":
        return one.scope ? 5 : 1;
      case "update_applied":
        return dead && this.spec.sick === "nan" ? 0 : step % 400 === 3 ? 0 : 1;
      case "skip_reason":
        return dead && this.spec.sick === "nan" ? (step % 2 ? 1 : 2) : step % 400 === 3 ? 1 : 0;
      case "lr_scheduled":
        return schedule;
      case "lr":
        return schedule * this.factor;
      case "q_mean":
        return 10 * bonus * Math.exp(Math.max(0, age) / 700) * (1 + 0.1 * noise());
      case "q_std":
        return 3 * bonus * Math.exp(Math.max(0, age) / 700);
      case "q_min":
        return -8 * bonus * Math.exp(Math.max(0, age) / 700);
      case "q_max":
        return 30 * bonus * Math.exp(Math.max(0, age) / 700);
      case "grad_norm_layer": {
        const depth = LAYERS.indexOf(one.layer);
        if (this.spec.sick === "vanish" && depth < 8 && age > 0) return 1e-9 * Math.exp(noise());
        return (norm * Math.exp(-depth / 4 + noise())) / 2;
      }
      case "update_ratio_layer":
        return 1e-3 * Math.exp(LAYERS.indexOf(one.layer) / 3 - 2 + noise()) * (dead ? 0 : 1);
      case "dead_fraction_layer":
        return Math.min(1, Math.max(0, LAYERS.indexOf(one.layer) / 20 + 0.05 * noise()));
      case "repaired":
        return step % 31 === 0 ? 2 : 0;
      case "reward":
        return 20 * (1 - Math.exp(-step / 2000)) + 2 * noise();
      case "reward_abs_max":
        return 22;
      case "entropy":
        return 1.4 * Math.exp(-step / 8000) + 0.05 * noise();
      case "kl":
        return 0.01 * Math.exp(noise() * 3);
      case "throughput":
        return this.rate * (1 + 0.1 * noise());
      case "memory":
        return 2100 + step / 100;
      default:
        return step * 4096;
    }
  }

  newest(kind) {
    const one = this.series.find((s) => s.kind === kind);
    return one ? (this.values.get(one.id).at(-1) ?? Number.NaN) : Number.NaN;
  }

  share(kind, test) {
    const one = this.series.find((s) => s.kind === kind);
    if (!one) return Number.NaN;
    const last = this.values.get(one.id).slice(-100);
    return last.filter(test).length / last.length;
  }
}

export function makeRuns(empty) {
  if (empty) return [];
  const healthy = (n, rate) => ({ steps: n, rate, layers: n % 2 === 0, project: "language" });
  const rl = {
    scopes: ["policy", "q1", "q2"],
    extra: ["reward", "reward_abs_max", "entropy", "kl"],
    project: "robots",
  };
  const specs = [
    [
      "noa-t256",
      { steps: 1669, rate: 1, sick: "nan", onset: 1200, layers: true, project: "language", controls: "all" },
    ],
    [
      "sac-ant-17",
      { ...rl, repaired: true, steps: 9340, rate: 12, sick: "clip", onset: 9120, controls: "all" },
    ],
    [
      "bert-large-sst2",
      { steps: 4200, rate: 3, silent: 190, layers: true, project: "language", controls: "all" },
    ],
    ["vit-tiny", { steps: 2600, rate: 4, sick: "vanish", onset: 1500, layers: true, project: "vision" }],
    [
      "gpt-s-04",
      {
        steps: 48_000,
        rate: 20,
        layers: true,
        spikes: true,
        wild: true,
        project: "language",
        controls: "all",
      },
    ],
    ["gpt-s-05", healthy(3000, 2)],
    ["resnet18-cifar", healthy(5001, 8)],
    ["ppo-hopper", { ...rl, steps: 2400, rate: 5, controls: "lr" }],
    ["diffusion-64", healthy(800, 1)],
    ["gru-seq", healthy(301, 2)],
    ["gpt-s-03", { steps: 3000, rate: 2, ended: 4000, exit: 0, project: "language" }],
    ["noa-t128", { steps: 900, rate: 2, sick: "nan", onset: 400, ended: 9000, exit: 1, project: "language" }],
  ];
  return specs.map(([name, spec], i) => new Run(i, name, spec));
}

export function checkpointsOf(run) {
  const grades = run.spec.sick ? ["healthy", "suspect", "bad"] : ["healthy", "healthy", "unverified"];
  return [0.25, 0.6, 0.97].map((share, i) => {
    const step = Math.floor(run.steps.length * share);
    return {
      step,
      at: run.times[step],
      path: `/checkpoints/${run.name}/${step}.pt`,
      bytes: 48_234_496,
      sha256: "ab".repeat(32),
      grade: grades[i],
      command_id: "",
    };
  });
}

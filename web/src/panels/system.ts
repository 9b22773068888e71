import { linePanel } from "./lines";
import type { Panel } from "./panel";

/** The machine, and what nanwatch costs on it. */
export const system: Panel[] = [
  linePanel({ id: "throughput", title: "Attempts per second", kinds: { throughput: "attempts" } }),
  linePanel({
    id: "step_time",
    title: "Time per step",
    unit: "s",
    kinds: { step_time: "whole step", data_time: "waiting for data" },
    log: true,
  }),
  linePanel({ id: "memory", title: "Memory of the process", unit: "MiB", kinds: { memory: "memory" } }),
  linePanel({
    id: "gpu_memory",
    title: "Memory of the accelerator",
    unit: "MiB",
    kinds: { gpu_memory: "memory" },
  }),
  linePanel({
    id: "gpu_utilization",
    title: "Accelerator busy",
    unit: "%",
    kinds: { gpu_utilization: "busy" },
  }),
  linePanel({
    id: "gpu_temperature",
    title: "Accelerator temperature",
    unit: "°C",
    kinds: { gpu_temperature: "temperature" },
  }),
  linePanel({
    id: "sdk_overhead",
    title: "Cost of nanwatch",
    unit: "share of the step time",
    kinds: { sdk_overhead: "overhead" },
  }),
];

import { formatClock, formatDateTime, formatDuration, formatNumber, formatStep } from "../ui/format";
import type { Tick } from "./figure";

/** About `count` round numbers inside the range. */
export function roundNumbers(from: number, to: number, count: number): number[] {
  const span = to - from;
  if (!(span > 0) || !Number.isFinite(span)) return [];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].find((m) => m * power >= rough) ?? 10;
  return multiples(from, to, unit * power);
}

function multiples(from: number, to: number, unit: number): number[] {
  const found: number[] = [];
  for (let i = Math.ceil(from / unit - 1e-9); i * unit <= to * (1 + 1e-12) + 1e-300; i++) {
    found.push(Number((i * unit).toPrecision(12)));
    if (found.length > 50) break;
  }
  return found;
}

export function valueTicks(range: [number, number], log: boolean): Tick[] {
  if (!log) return roundNumbers(range[0], range[1], 5).map((at) => ({ at, text: formatNumber(at) }));
  const decades = range[1] - range[0];
  if (decades < 1.2) return narrowLogTicks(range);
  const stride = Math.max(1, Math.ceil(decades / 5));
  return multiples(range[0], range[1], stride).map((at) => ({ at: 10 ** at, text: decade(at) }));
}

function narrowLogTicks(range: [number, number]): Tick[] {
  const low = 10 ** range[0];
  const high = 10 ** range[1];
  return roundNumbers(low, high, 5)
    .filter((v) => v > 0)
    .map((at) => ({ at, text: formatNumber(at) }));
}

function decade(exponent: number): string {
  return exponent >= -3 && exponent <= 4
    ? formatNumber(Number((10 ** exponent).toPrecision(3)))
    : `1e${exponent}`;
}

const SECONDS = [
  1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800, 604_800,
];

/** Ticks of the x axis for steps, seconds since the start, or seconds since 1970. */
export function positionTicks(
  from: number,
  to: number,
  mode: "step" | "rel" | "wall",
  count: number,
): Tick[] {
  if (mode === "step")
    return roundNumbers(from, to, count)
      .filter((at) => Number.isInteger(at))
      .map((at) => ({ at, text: formatStep(at) }));
  const unit = SECONDS.find((s) => (to - from) / s <= count) ?? 604_800;
  const shift = mode === "wall" ? new Date(from * 1000).getTimezoneOffset() * 60 : 0;
  return multiples(from - shift, to - shift, unit).map((local) => {
    const at = local + shift;
    if (mode === "rel") return { at, text: formatDuration(at) };
    return {
      at,
      text: unit >= 86_400 ? formatDateTime(at).slice(0, 10) : formatClock(at).slice(0, unit < 60 ? 8 : 5),
    };
  });
}

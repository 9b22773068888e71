/** Numbers and times as people read them; the same on every page. */

const THIN = "\u2009";

/** Four significant digits; e-notation from 1e5 and below 1e-3; NaN, +Inf and −Inf as words. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "−Inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 99_995 || size < 1e-3) return tidyExponent(value.toExponential(3));
  return minus(trimZeros(value.toPrecision(4), value));
}

/** Text of the protocol ("3e-05", "NaN", "Infinity") in the page's notation. */
export function formatText(value: string | undefined | null): string {
  if (value === undefined || value === null || value === "") return "—";
  const parsed = parseMetric(value);
  return parsed === null ? value : formatNumber(parsed);
}

/** A metric value that travels as text; null if it is not a number at all. */
export function parseMetric(value: string): number | null {
  const text = value.trim();
  if (/^[+-]?nan$/i.test(text)) return Number.NaN;
  if (/^\+?inf(inity)?$/i.test(text)) return Number.POSITIVE_INFINITY;
  if (/^-inf(inity)?$/i.test(text)) return Number.NEGATIVE_INFINITY;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return null;
  return Number(text);
}

function tidyExponent(text: string): string {
  const [mantissa, exponent] = text.split("e") as [string, string];
  const digits = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  return minus(`${digits}e${exponent.replace("+", "")}`);
}

function trimZeros(text: string, value: number): string {
  // 12 400 keeps its zeros: only decimals are trimmed, and integers stay integers.
  if (Number.isInteger(value)) return group(String(value));
  const plain = text.includes("e") ? String(Number(text)) : text;
  const trimmed = plain.includes(".") ? plain.replace(/\.?0+$/, "") : plain;
  return group(trimmed);
}

function minus(text: string): string {
  return text.replace(/^-/, "−").replace("e-", "e-");
}

function group(text: string): string {
  const [whole, decimals] = text.split(".") as [string, string | undefined];
  if (whole.replace("-", "").length < 5) return text;
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
  return decimals ? `${grouped}.${decimals}` : grouped;
}

/** Steps and counts: integers with thin spaces. */
export function formatStep(step: number | null | undefined): string {
  if (step === null || step === undefined || !Number.isFinite(step) || step < 0) return "—";
  return String(Math.round(step)).replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
}

export function formatShare(share: number): string {
  if (!Number.isFinite(share)) return "—";
  const percent = share * 100;
  // 99.96 % is not "100 %": a single skipped update must show.
  if (percent > 99 && percent < 100) return `${Math.min(99.9, Number(percent.toFixed(1)))} %`;
  if (percent > 0 && percent < 1) return `${Math.max(0.1, Number(percent.toFixed(1)))} %`;
  return `${Math.round(percent)} %`;
}

/** "850 ms", "4.2 s", "4 min 10 s", "3 h 10 min", "2 d 4 h". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "—";
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3600), "h");
}

function two(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

/** Whole seconds: ages that tick should not flicker between "4.2 s" and "4.3 s". */
export function formatAge(seconds: number): string {
  if (!Number.isFinite(seconds)) return "—";
  return seconds < 1 ? "now" : formatDuration(Math.max(1, Math.floor(seconds)));
}

const pad = (n: number) => String(n).padStart(2, "0");

/** Local time of the day. */
export function formatClock(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds <= 0) return "—";
  const date = new Date(seconds * 1000);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function formatDateTime(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds <= 0) return "—";
  const date = new Date(seconds * 1000);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${formatClock(seconds)}`;
}

export function formatUtc(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds <= 0) return "";
  return `${new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19)} UTC`;
}

export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return "—";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${unit ? size.toPrecision(3) : size} ${units[unit]}`;
}

/** Words for a file: what a spreadsheet or Python reads back. */
export function exportNumber(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (value === Number.POSITIVE_INFINITY) return "Infinity";
  if (value === Number.NEGATIVE_INFINITY) return "-Infinity";
  return Object.is(value, -0) ? "-0" : String(value);
}

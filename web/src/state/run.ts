import { signal } from "@preact/signals";
import { errorText, getFrame, getJson } from "../net/api";
import type { Frame } from "../net/frame";
import { live } from "../net/live";
import { type Columns, readSeries } from "../net/series";
import type { Checkpoint, Command, Incident, Mark, RunDetail, RunEvents, SeriesInfo } from "../net/types";
import { Reports } from "./reports";
import { mergeLive, PointRing } from "./ring";
import { Timeline } from "./timeline";
import { keepIncident } from "./wall";

const LINE_BUCKETS = 1200;
const LAYER_BUCKETS = 240;
const LAYERS_PER_QUERY = 64;
const LAYERS_MOST = 200;
/** Vital signs look at the last hundred attempts; the newest 200 steps are kept raw. */
const RAW_TAIL = 220;
/** After so many live points a fresh query is cheaper to draw than ever more raw points. */
const REQUERY_AFTER = 1200;
const REQUERY_EVERY_MS = 5000;

interface PointsTable {
  series: number[];
  n: number;
  steps: number;
  times: number;
  values: number;
}

/** Which steps are looked at: a zoom, or the newest `follow` steps (0: all). */
export interface Shown {
  zoom: [number, number] | null;
  follow: number;
}

/** Everything known about the run on screen. Panels read it; nobody but this class changes it. */
export class RunStore {
  readonly detail = signal<RunDetail | null>(null);
  readonly incidents = signal<Map<string, Incident>>(new Map());
  readonly commands = signal<Map<string, Command>>(new Map());
  readonly marks = signal<Mark[]>([]);
  readonly checkpoints = signal<Checkpoint[]>([]);
  readonly reports = new Reports();
  /** Grows when points came, at most four times a second: numbers subscribe to it. */
  readonly version = signal(0);
  /** Grows at most once a second by live points, at once by an answer: charts subscribe to it. */
  readonly picture = signal(0);
  readonly failure = signal("");
  readonly loaded = signal(false);
  readonly timeline = new Timeline();
  private readonly history = new Map<number, Columns>();
  private readonly rings = new Map<number, PointRing>();
  private readonly merged = new Map<number, { version: number; columns: Columns }>();
  private readonly touched = new Map<number, number>();
  private shown: Shown = { zoom: null, follow: 0 };
  private abort: AbortController | null = null;
  private stops: (() => void)[] = [];
  private requeryTimer = 0;
  private bumpTimer = 0;
  private pictureTimer = 0;
  private sinceQuery = 0;
  private queriedAt = 0;
  private knownSeries = 0;
  /** Kinds of layer series that a chart shows; the others are neither asked for nor kept. */
  private readonly wanted = new Set(["grad_norm_layer"]);
  private readonly layerKinds = new Map<number, string>();

  constructor(readonly id: string) {}

  start(): void {
    this.stops = [
      live.listen((frame) => this.receive(frame)),
      live.watch({ topic: "run", run: this.id }),
      live.onReturn(() => void this.reload()),
    ];
    void this.reload();
  }

  stop(): void {
    for (const stop of this.stops) stop();
    this.abort?.abort();
    clearTimeout(this.requeryTimer);
    clearTimeout(this.bumpTimer);
    clearTimeout(this.pictureTimer);
  }

  seriesOf(...kinds: string[]): SeriesInfo[] {
    return (this.detail.peek()?.series ?? []).filter(
      (series) => kinds.includes(series.kind) && series.rank === 0,
    );
  }

  /** A chart shows these kinds from now on. */
  want(kinds: string[]): void {
    const fresh = kinds.filter((kind) => kind.endsWith("_layer") && !this.wanted.has(kind));
    if (!fresh.length) return;
    for (const kind of fresh) this.wanted.add(kind);
    this.scheduleQuery(30);
  }

  /** History of the visible steps with the live points behind it. */
  columns(id: number): Columns {
    const version = this.touched.get(id) ?? 0;
    const kept = this.merged.get(id);
    if (kept && kept.version === version) return kept.columns;
    const columns = mergeLive(this.history.get(id), this.rings.get(id), id);
    this.merged.set(id, { version, columns });
    return columns;
  }

  /** The newest raw points. */
  tail(id: number, n: number): { steps: Float64Array; times: Float64Array; values: Float64Array } {
    return (
      this.rings.get(id)?.tail(n) ?? {
        steps: new Float64Array(0),
        times: new Float64Array(0),
        values: new Float64Array(0),
      }
    );
  }

  lastValue(id: number): number | undefined {
    return this.rings.get(id)?.lastValue;
  }

  get lastStep(): number {
    let last = this.detail.peek()?.last_step ?? -1;
    for (const ring of this.rings.values()) if (ring.lastStep > last) last = ring.lastStep;
    return last;
  }

  get firstStep(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const columns of this.history.values()) if (columns.n) first = Math.min(first, columns.first[0]!);
    return Number.isFinite(first) ? Math.min(first, this.lastStep) : 0;
  }

  /** Show other steps: asks again after 150 ms; an older question is dropped. */
  show(shown: Shown): void {
    if (JSON.stringify(shown) === JSON.stringify(this.shown)) return;
    this.shown = shown;
    this.scheduleQuery(150);
  }

  private get range(): [number, number] | null {
    if (this.shown.zoom) return this.shown.zoom;
    if (!this.shown.follow || this.lastStep < 0) return null;
    return [Math.max(0, this.lastStep - 2 * this.shown.follow), Number.POSITIVE_INFINITY];
  }

  private async reload(): Promise<void> {
    const base = `/api/runs/${encodeURIComponent(this.id)}`;
    try {
      this.applyDetail(await getJson<RunDetail>(base));
      this.failure.value = "";
    } catch (error) {
      this.failure.value = errorText(error);
      this.loaded.value = true;
      return;
    }
    await Promise.all([
      this.load<{ incidents: Incident[] }>(`${base}/incidents`, ({ incidents }) => {
        this.incidents.value = new Map(incidents.map((one) => [one.id, one]));
        for (const one of incidents) for (const f of one.findings) this.timeline.add(f.step, f.time);
      }),
      this.load<{ commands: Command[] }>(`${base}/commands`, ({ commands }) => {
        this.commands.value = new Map(commands.map((one) => [one.id, one]));
      }),
      this.load<RunEvents>(`${base}/events`, (events) => {
        this.marks.value = events.marks;
        this.checkpoints.value = events.checkpoints;
        this.reports.set(events);
        for (const mark of events.marks) this.timeline.add(mark.step, mark.at);
      }),
      this.queryTail(),
      this.query(),
    ]);
    this.loaded.value = true;
    this.bump(true);
  }

  private async load<T>(path: string, apply: (answer: T) => void): Promise<void> {
    try {
      apply(await getJson<T>(path));
    } catch {
      // Each part of the page stands alone: a list that fails must not empty the charts.
    }
  }

  private applyDetail(detail: RunDetail): void {
    const before = this.detail.peek();
    this.detail.value = detail;
    for (const one of detail.series) if (one.kind.endsWith("_layer")) this.layerKinds.set(one.id, one.kind);
    const count = detail.series.length;
    if (count !== this.knownSeries) {
      this.knownSeries = count;
      if (before) this.scheduleQuery(300);
    }
  }

  private receive(frame: Frame): void {
    if (frame.type === "lagged") {
      void this.reload();
      return;
    }
    const run = frame.type === "run" ? (frame.header.run as RunDetail)?.id : frame.header.run;
    if (run !== this.id) return;
    switch (frame.type) {
      case "run":
        this.applyDetail(frame.header.run as RunDetail);
        break;
      case "points":
        this.takePoints(frame);
        break;
      case "incident":
        this.putIncident(frame.header.incident as Incident);
        break;
      case "command":
        this.putCommand(frame.header.command as Command);
        break;
      case "event":
        this.takeEvent(frame.header);
        break;
    }
  }

  private takePoints(frame: Frame): void {
    for (const table of (frame.header.tables ?? []) as PointsTable[]) {
      const steps = frame.block(table.steps, table.n);
      const times = frame.block(table.times, table.n);
      const values = frame.block(table.values, table.n * table.series.length);
      this.timeline.addColumn(steps, times);
      table.series.forEach((id, k) => {
        this.feed(id, steps, times, values.subarray(k * table.n, (k + 1) * table.n));
      });
      this.sinceQuery += table.n;
    }
    // Only a view at the newest data grows; a zoomed view needs no new query.
    // A fast run must neither push the query off for ever nor ask all the time.
    if (this.sinceQuery > REQUERY_AFTER && !this.shown.zoom && !this.requeryTimer)
      this.scheduleQuery(Math.max(500, this.queriedAt + REQUERY_EVERY_MS - performance.now()));
    this.bump();
  }

  private feed(id: number, steps: Float64Array, times: Float64Array, values: Float64Array): void {
    const kind = this.layerKinds.get(id);
    if (kind !== undefined && !this.wanted.has(kind)) return;
    let ring = this.rings.get(id);
    if (!ring) {
      ring = new PointRing();
      this.rings.set(id, ring);
    }
    for (let i = 0; i < steps.length; i++) ring.push(steps[i]!, times[i]!, values[i]!);
    this.touch(id);
  }

  private touch(id: number): void {
    this.touched.set(id, (this.touched.get(id) ?? 0) + 1);
  }

  private takeEvent(header: Record<string, unknown>): void {
    if (header.mark) {
      const mark = header.mark as Mark;
      this.timeline.add(mark.step, mark.at);
      this.marks.value = [...this.marks.peek(), mark];
    } else if (header.checkpoint) {
      const checkpoint = header.checkpoint as Checkpoint;
      // A grade may change later: the same file replaces its entry.
      const others = this.checkpoints
        .peek()
        .filter((one) => one.path !== checkpoint.path || one.step !== checkpoint.step);
      this.checkpoints.value = [...others, checkpoint];
    } else this.reports.take(header);
  }

  putIncident(incident: Incident): void {
    this.incidents.value = new Map(this.incidents.peek()).set(incident.id, incident);
    for (const finding of incident.findings) this.timeline.add(finding.step, finding.time);
    keepIncident(incident);
  }

  putCommand(command: Command): void {
    const known = this.commands.peek().get(command.id);
    // The answer of a POST may come after frames that are already further.
    if (known && known.transitions.length > command.transitions.length) return;
    this.commands.value = new Map([[command.id, command], ...this.commands.peek()]).set(command.id, command);
  }

  private bump(atOnce = false): void {
    if (atOnce) clearTimeout(this.pictureTimer);
    if (atOnce || !this.pictureTimer)
      this.pictureTimer = window.setTimeout(
        () => {
          this.pictureTimer = 0;
          this.picture.value++;
        },
        atOnce ? 20 : 1000,
      );
    if (this.bumpTimer) return;
    this.bumpTimer = window.setTimeout(() => {
      this.bumpTimer = 0;
      this.version.value++;
    }, 250);
  }

  private scheduleQuery(wait: number): void {
    clearTimeout(this.requeryTimer);
    this.requeryTimer = window.setTimeout(() => {
      this.requeryTimer = 0;
      void this.query();
    }, wait);
  }

  private lineIds(): number[] {
    const series = this.detail.peek()?.series ?? [];
    return series.filter((one) => one.rank === 0 && !one.kind.endsWith("_layer")).map((one) => one.id);
  }

  private layerIds(): number[] {
    return [...this.wanted].flatMap((kind) =>
      this.seriesOf(kind)
        .slice(0, LAYERS_MOST)
        .map((one) => one.id),
    );
  }

  private path(ids: number[], range: [number, number] | null, buckets: number): string {
    const end = range && Number.isFinite(range[1]) ? `&x1=${Math.ceil(range[1])}` : "";
    const limits = range ? `&x0=${Math.max(0, Math.floor(range[0]))}${end}` : "";
    return `/api/runs/${encodeURIComponent(this.id)}/series?ids=${ids.join(",")}${limits}&buckets=${buckets}`;
  }

  private async queryTail(): Promise<void> {
    const ids = this.lineIds().slice(0, 120);
    const last = this.detail.peek()?.last_step ?? -1;
    if (!ids.length || last < 0) return;
    try {
      const frame = await getFrame(this.path(ids, [Math.max(0, last - RAW_TAIL), last + 10_000], 2000));
      for (const [id, columns] of readSeries(frame)) {
        if (!columns.raw) continue;
        this.timeline.addColumn(columns.last, columns.time);
        this.feed(id, columns.last, columns.time, rawValues(columns));
      }
    } catch {
      // The history query says what is wrong.
    }
  }

  private async query(): Promise<void> {
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    this.sinceQuery = 0;
    this.queriedAt = performance.now();
    const lines = this.lineIds();
    const layers = this.layerIds();
    const jobs: [number[], number][] = [];
    for (let i = 0; i < lines.length; i += LAYERS_PER_QUERY)
      jobs.push([lines.slice(i, i + LAYERS_PER_QUERY), LINE_BUCKETS]);
    for (let i = 0; i < layers.length; i += LAYERS_PER_QUERY)
      jobs.push([layers.slice(i, i + LAYERS_PER_QUERY), LAYER_BUCKETS]);
    try {
      for (const [ids, buckets] of jobs) {
        const frame = await getFrame(this.path(ids, this.range, buckets), abort.signal);
        if (abort.signal.aborted) return;
        for (const [id, columns] of readSeries(frame)) this.putHistory(id, columns);
        this.bump(true);
      }
    } catch (error) {
      if (!abort.signal.aborted && !this.history.size) this.failure.value = errorText(error);
    }
  }

  private putHistory(id: number, columns: Columns): void {
    this.history.set(id, columns);
    if (columns.time.length) this.timeline.addColumn(columns.last, columns.time);
    if (columns.n && !this.shown.zoom) this.rings.get(id)?.trim(columns.last[columns.n - 1]!, RAW_TAIL);
    this.touch(id);
  }
}

/** Raw values with their non-finite words put back. */
function rawValues(columns: Columns): Float64Array {
  return columns.value.map((value, i) =>
    columns.pinf[i]! > 0
      ? Number.POSITIVE_INFINITY
      : columns.ninf[i]! > 0
        ? Number.NEGATIVE_INFINITY
        : columns.nan[i]! > 0
          ? Number.NaN
          : value,
  );
}

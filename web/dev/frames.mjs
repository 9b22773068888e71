// Frames of the live protocol, and series as the store answers them.

export function encode(header, blocks) {
  let text = Buffer.from(JSON.stringify(header));
  text = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, 0x20)]);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(text.length, 0);
  return Buffer.concat([head, text, ...blocks.map((b) => Buffer.from(b.buffer, b.byteOffset, b.byteLength))]);
}

/** Collects blocks and tells where each one begins. */
export class Blocks {
  list = [];
  size = 0;
  add(values) {
    const block = Float64Array.from(values);
    const at = this.size;
    this.list.push(block);
    this.size += block.byteLength;
    return at;
  }
}

export function seriesFrame(run, ids, x0, x1, buckets) {
  const blocks = new Blocks();
  const series = ids
    .filter((id) => run.values.has(id))
    .map((id) => {
      const low = run.steps.findIndex((s) => s >= x0);
      let high = run.steps.length;
      while (high > 0 && run.steps[high - 1] > x1) high--;
      const from = low < 0 ? high : low;
      return describe(id, run, from, high, buckets, blocks);
    });
  return encode(
    { type: "series", run: run.id, x0, x1: Number.isFinite(x1) ? x1 : null, series },
    blocks.list,
  );
}

function describe(id, run, from, to, buckets, blocks) {
  const values = run.values.get(id);
  const n = to - from;
  if (n <= buckets)
    return {
      id,
      mode: "raw",
      n,
      steps: blocks.add(run.steps.slice(from, to)),
      times: blocks.add(run.times.slice(from, to)),
      values: blocks.add(values.slice(from, to)),
    };
  const size = Math.ceil(n / buckets);
  const rows = [];
  for (let i = from; i < to; i += size) rows.push(bucket(run.steps, values, i, Math.min(to, i + size)));
  const names = "first_step last_step min max min_step max_step first last count nan pinf ninf".split(" ");
  const item = { id, mode: "buckets", n: rows.length };
  for (const name of names) item[name] = blocks.add(rows.map((row) => row[name]));
  return item;
}

function bucket(steps, values, from, to) {
  const row = {
    first_step: steps[from],
    last_step: steps[to - 1],
    count: to - from,
    nan: 0,
    pinf: 0,
    ninf: 0,
  };
  for (const name of ["min", "max", "min_step", "max_step", "first", "last"]) row[name] = Number.NaN;
  for (let i = from; i < to; i++) {
    const value = values[i];
    if (Number.isNaN(value)) row.nan++;
    else if (value === Number.POSITIVE_INFINITY) row.pinf++;
    else if (value === Number.NEGATIVE_INFINITY) row.ninf++;
    else {
      if (!(row.min <= value)) [row.min, row.min_step] = [value, steps[i]];
      if (!(row.max >= value)) [row.max, row.max_step] = [value, steps[i]];
      if (Number.isNaN(row.first)) row.first = value;
      row.last = value;
    }
  }
  return row;
}

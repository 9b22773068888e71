import { describe, expect, it } from "vitest";
import { decodeFrame, encodeFrame, FrameError } from "../src/net/frame";
import { readSeries } from "../src/net/series";

describe("decodeFrame", () => {
  it("keeps NaN, infinities and negative zero bit for bit", () => {
    const values = Float64Array.of(
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      -0,
      5e-324,
      1e308,
    );
    const frame = decodeFrame(encodeFrame({ type: "points" }, [values]));
    const back = frame.block(0, values.length);
    expect(frame.type).toBe("points");
    for (let i = 0; i < values.length; i++) expect(Object.is(back[i], values[i])).toBe(true);
  });

  it("keeps the payload of a NaN", () => {
    const buffer = encodeFrame({ type: "points" }, [Float64Array.of(0)]);
    const payload = 0x7ff8_0000_dead_beefn;
    new DataView(buffer).setBigUint64(buffer.byteLength - 8, payload, true);
    const block = decodeFrame(buffer).block(0, 1);
    expect(new BigUint64Array(block.buffer, block.byteOffset, 1)[0]).toBe(payload);
  });

  it("reads names that are not ASCII and several blocks", () => {
    const frame = decodeFrame(
      encodeFrame({ type: "run", name: "Übung <b>" }, [Float64Array.of(1), Float64Array.of(2, 3)]),
    );
    expect(frame.header.name).toBe("Übung <b>");
    expect([...frame.block(8, 2)]).toEqual([2, 3]);
  });

  it("refuses what is cut off, too short, or no object", () => {
    const whole = encodeFrame({ type: "points" }, [Float64Array.of(1, 2)]);
    expect(() => decodeFrame(new ArrayBuffer(4))).toThrow(FrameError);
    expect(() => decodeFrame(whole.slice(0, 16))).toThrow(FrameError);
    expect(() => decodeFrame(whole).block(8, 2)).toThrow(FrameError);
    expect(() => decodeFrame(whole).block(-8, 1)).toThrow(FrameError);
    const list = encodeFrame([] as unknown as Record<string, unknown>, []);
    expect(() => decodeFrame(list)).toThrow(FrameError);
  });
});

describe("readSeries", () => {
  it("turns raw points into rows of one", () => {
    const frame = decodeFrame(
      encodeFrame(
        { type: "series", series: [{ id: 7, mode: "raw", n: 3, steps: 0, times: 24, values: 48 }] },
        [
          Float64Array.of(1, 2, 3),
          Float64Array.of(10, 11, 12),
          Float64Array.of(0.5, Number.NaN, Number.POSITIVE_INFINITY),
        ],
      ),
    );
    const columns = readSeries(frame).get(7)!;
    expect(columns.raw).toBe(true);
    expect([...columns.nan]).toEqual([0, 1, 0]);
    expect([...columns.pinf]).toEqual([0, 0, 1]);
    expect(columns.max[2]).toBeNaN();
  });

  it("counts only finite values of a bucket", () => {
    const names = "first_step last_step min max min_step max_step first last count nan pinf ninf".split(" ");
    const values = [0, 9, 1, 4, 2, 3, 1, 4, 10, 2, 1, 0];
    const item: Record<string, unknown> = { id: 1, mode: "buckets", n: 1 };
    names.forEach((name, i) => {
      item[name] = 8 * i;
    });
    const frame = decodeFrame(
      encodeFrame(
        { type: "series", series: [item] },
        values.map((v) => Float64Array.of(v)),
      ),
    );
    const columns = readSeries(frame).get(1)!;
    expect(columns.count[0]).toBe(7);
    expect([columns.min[0], columns.max[0], columns.value[0]]).toEqual([1, 4, 4]);
  });
});

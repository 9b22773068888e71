/**
 * Live frames: u32 header length (LE), u32 zero, header in UTF-8 JSON padded with spaces, float64 blocks (LE).
 * The JSON names blocks by byte offset from the end of the header; no metric value is in it, so NaN,
 * both infinities and negative zero arrive bit for bit.
 */

export class FrameError extends Error {}

export interface Frame {
  type: string;
  header: Record<string, unknown>;
  /** A view of `count` float64 values at `offset` bytes from the end of the header. */
  block(offset: number, count: number): Float64Array;
}

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

export function decodeFrame(buffer: ArrayBuffer): Frame {
  if (buffer.byteLength < 8) throw new FrameError(`frame of ${buffer.byteLength} bytes: expected at least 8`);
  const view = new DataView(buffer);
  const length = view.getUint32(0, true);
  const start = 8 + length;
  if (start > buffer.byteLength)
    throw new FrameError(`header of ${length} bytes in a frame of ${buffer.byteLength}`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  } catch (error) {
    throw new FrameError(`header is not JSON: ${String(error)}`);
  }
  if (typeof header !== "object" || header === null || Array.isArray(header))
    throw new FrameError("header is not an object");
  const fields = header as Record<string, unknown>;
  if (typeof fields.type !== "string") throw new FrameError("header has no type");
  return {
    type: fields.type,
    header: fields,
    block: (offset, count) => readBlock(buffer, start, offset, count),
  };
}

function readBlock(buffer: ArrayBuffer, start: number, offset: number, count: number): Float64Array {
  const from = start + offset;
  if (!Number.isInteger(offset) || !Number.isInteger(count) || offset < 0 || count < 0)
    throw new FrameError(`block at ${offset} with ${count} values`);
  if (from + 8 * count > buffer.byteLength)
    throw new FrameError(`block at ${offset} with ${count} values runs past the end of the frame`);
  if (LITTLE_ENDIAN && from % 8 === 0) return new Float64Array(buffer, from, count);
  const view = new DataView(buffer);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) values[i] = view.getFloat64(from + 8 * i, true);
  return values;
}

/** Writes a frame; the development server and the tests use it. */
export function encodeFrame(header: Record<string, unknown>, blocks: Float64Array[]): ArrayBuffer {
  let text = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(text.length / 8) * 8;
  const size = blocks.reduce((sum, block) => sum + 8 * block.length, 0);
  const buffer = new ArrayBuffer(8 + padded + size);
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  view.setUint32(0, padded, true);
  bytes.fill(0x20, 8, 8 + padded);
  bytes.set(text, 8);
  text = new Uint8Array(0);
  let at = 8 + padded;
  for (const block of blocks) {
    for (const value of block) {
      view.setFloat64(at, value, true);
      at += 8;
    }
  }
  return buffer;
}

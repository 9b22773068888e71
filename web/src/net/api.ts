import { decodeFrame, type Frame } from "./frame";
import { signedOut } from "./signals";

/** An error answer of the server, with its own words. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  /** Of a text that was refused; counts from 1, 0 for the whole. */
  readonly line: number;
  constructor(status: number, code: string, message: string, line = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.line = line;
  }
}

interface Options {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

async function send(method: string, path: string, options: Options): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-Nanwatch"] = "1";
  }
  const body = method === "GET" ? undefined : JSON.stringify(options.body ?? {});
  const answer = await fetch(path, {
    method,
    headers,
    body,
    signal: options.signal,
    credentials: "same-origin",
  });
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "/api/login") signedOut.value = true;
  throw await errorOf(answer);
}

async function errorOf(answer: Response): Promise<ApiError> {
  try {
    const { error } = (await answer.json()) as { error: { code: string; message: string; line?: number } };
    return new ApiError(answer.status, error.code, error.message, error.line);
  } catch {
    return new ApiError(
      answer.status,
      "unknown",
      `The server answered ${answer.status} without an explanation.`,
    );
  }
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send("GET", path, { signal })).json() as Promise<T>;
}

export async function postJson<T>(path: string, body: unknown, headers?: Record<string, string>): Promise<T> {
  return (await send("POST", path, { body, headers })).json() as Promise<T>;
}

export async function putJson<T>(path: string, body: unknown): Promise<T> {
  return (await send("PUT", path, { body })).json() as Promise<T>;
}

export async function deleteJson<T>(path: string): Promise<T> {
  return (await send("DELETE", path, {})).json() as Promise<T>;
}

export async function getFrame(path: string, signal?: AbortSignal): Promise<Frame> {
  return decodeFrame(await (await send("GET", path, { signal })).arrayBuffer());
}

/** `crypto.randomUUID` exists only on HTTPS and localhost; a page on a plain-HTTP LAN needs a key too. */
export function randomKey(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function errorText(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  if (error instanceof TypeError) return "The server cannot be reached.";
  return error instanceof Error ? error.message : String(error);
}

import { getJson } from "./api";
import { decodeFrame, type Frame } from "./frame";
import { clockOffset, connection, lastFrameAt, outdated, serverVersion, signedOut } from "./signals";

type Listener = (frame: Frame) => void;

interface Watch {
  topic: "wall" | "run";
  run?: string;
}

/** One socket for the page: topics are watched again by themselves after every reconnect. */
class LiveSocket {
  private socket: WebSocket | null = null;
  private readonly watches = new Map<string, Watch>();
  private readonly listeners = new Set<Listener>();
  private readonly reconnected = new Set<() => void>();
  private timer = 0;
  private everOpen = false;

  start(): void {
    if (!this.socket && !this.timer) this.open();
  }

  /** Called with every frame; returns how to stop. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Called when the connection is back after a loss: fill the gap by asking again. */
  onReturn(callback: () => void): () => void {
    this.reconnected.add(callback);
    return () => this.reconnected.delete(callback);
  }

  watch(watch: Watch): () => void {
    const key = `${watch.topic}:${watch.run ?? ""}`;
    this.watches.set(key, watch);
    this.send({ type: "watch", ...watch });
    return () => {
      this.watches.delete(key);
      this.send({ type: "unwatch", ...watch });
    };
  }

  /** Ask for a fresh snapshot of everything watched. */
  refresh(): void {
    for (const watch of this.watches.values()) this.send({ type: "watch", ...watch });
  }

  private send(message: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private open(): void {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.refresh();
      const returned = this.everOpen;
      this.everOpen = true;
      connection.value = { state: "live", attempts: 0 };
      lastFrameAt.value = Date.now();
      if (returned) for (const callback of this.reconnected) callback();
    };
    socket.onmessage = (event: MessageEvent) => {
      if (event.data instanceof ArrayBuffer) this.receive(event.data);
    };
    socket.onclose = (event: CloseEvent) => this.lost(event.code);
  }

  private receive(data: ArrayBuffer): void {
    const frame = decodeFrame(data);
    lastFrameAt.value = Date.now();
    if (frame.type === "hello") this.greet(frame);
    for (const listener of this.listeners) listener(frame);
  }

  private greet(frame: Frame): void {
    const { time, version } = frame.header;
    if (typeof time === "number") clockOffset.value = time - Date.now() / 1000;
    if (typeof version !== "string") return;
    if (serverVersion.value && serverVersion.value !== version) outdated.value = true;
    else serverVersion.value = version;
  }

  private lost(code: number): void {
    this.socket = null;
    const attempts = connection.value.attempts + 1;
    connection.value = { state: "lost", attempts };
    if (code === 4401) {
      signedOut.value = true;
      return;
    }
    // A browser is not told why a socket was refused: the session's answer tells whether to sign in.
    if (attempts % 8 === 1) getJson("/api/session").catch(() => undefined);
    // Half a second, doubling to ten, with jitter so that many pages do not return at once.
    const wait = Math.min(10_000, 500 * 2 ** Math.min(attempts - 1, 5)) * (0.75 + Math.random() / 2);
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      this.open();
    }, wait);
  }
}

export const live = new LiveSocket();

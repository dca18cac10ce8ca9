/** The connection to the service: a WebSocket that reconnects, and its state. */
import { BASE } from "@/api/client";

/**
 * `connecting` before the first message, `live` while messages arrive, `polling` while the socket is down.
 * Whether polling succeeds is known from the queries.
 */
export type ConnectionState = "connecting" | "live" | "polling";

export type LiveMessage = { type: string; data: Record<string, unknown> };

/** The part of a WebSocket that a connection uses. */
export interface SocketLike {
  send(text: string): void;
  close(): void;
  // biome-ignore lint/suspicious/noExplicitAny: the event of a WebSocket, and that of a test
  onmessage: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: see above
  onclose: ((event: any) => void) | null;
}

export const CHECK_MS = 2_000;
/** Time without a message after which the connection asks for one. */
export const QUIET_MS = 8_000;
/** Time for the first message of a socket, and for the answer to a ping. */
export const ANSWER_MS = 5_000;
/** Delay of a check by which a machine that slept is recognized. Browsers also delay the timers of hidden pages. */
export const SLEPT_MS = 6_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8_000;

export class Connection {
  private socket: SocketLike | null = null;
  private retryMs = FIRST_RETRY_MS;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private checks: ReturnType<typeof setInterval> | undefined;
  private checkedAt = 0;
  private heardAt = 0;
  /** When the socket began to owe a message; null while it owes none. */
  private askedAt: number | null = null;
  private current: ConnectionState = "connecting";
  private readonly stateListeners = new Set<() => void>();
  private readonly topics = new Map<string, number>();

  constructor(
    private readonly onMessage: (message: LiveMessage) => void,
    /** Called when messages arrive again: others may have been missed. */
    private readonly onReconnected: () => void,
    private readonly open: (url: string) => SocketLike = (url) => new WebSocket(url),
  ) {}

  get state(): ConnectionState {
    return this.current;
  }

  /** Calls `listener` when the state changes, until the returned function is called. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.stateListeners.add(listener);
    return () => this.stateListeners.delete(listener);
  };

  start(): void {
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
    this.checkedAt = Date.now();
    this.checks = setInterval(() => this.check(), CHECK_MS);
    this.connect();
  }

  stop(): void {
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    clearInterval(this.checks);
    this.drop();
    clearTimeout(this.retry);
  }

  /** Receives a further topic until the returned function is called. */
  follow(topic: string): () => void {
    const count = this.topics.get(topic) ?? 0;
    this.topics.set(topic, count + 1);
    if (count === 0 && this.current === "live") this.send("subscribe", { topic });
    return () => {
      const left = (this.topics.get(topic) ?? 1) - 1;
      if (left > 0) {
        this.topics.set(topic, left);
        return;
      }
      this.topics.delete(topic);
      if (this.current === "live") this.send("unsubscribe", { topic });
    };
  }

  private connect(): void {
    clearTimeout(this.retry);
    this.drop();
    const socket = this.open(`${BASE.replace(/^http/, "ws")}/api/v1/ws`);
    this.socket = socket;
    this.askedAt = Date.now();
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => this.lose();
  }

  private receive(text: unknown): void {
    if (typeof text !== "string") return;
    this.heardAt = Date.now();
    this.askedAt = null;
    if (this.current !== "live") {
      const wasLost = this.current === "polling";
      this.retryMs = FIRST_RETRY_MS;
      this.change("live");
      for (const topic of this.topics.keys()) this.send("subscribe", { topic });
      if (wasLost) this.onReconnected();
    }
    this.onMessage(JSON.parse(text) as LiveMessage);
  }

  private lose(): void {
    this.drop();
    clearTimeout(this.retry);
    this.change("polling");
    this.retry = setTimeout(() => this.connect(), this.retryMs * (0.75 + Math.random() / 2));
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
  }

  private check(): void {
    const now = Date.now();
    const slept = now - this.checkedAt > CHECK_MS + SLEPT_MS && document.visibilityState === "visible";
    this.checkedAt = now;
    if (!this.socket) return;
    if (slept || (this.askedAt !== null && now - this.askedAt > ANSWER_MS)) this.lose();
    else if (this.askedAt === null && now - this.heardAt > QUIET_MS) this.ask();
  }

  /** Checks the connection at once when the network or the page comes back. */
  private readonly wake = (): void => {
    if (document.visibilityState === "hidden") return;
    this.checkedAt = Date.now();
    if (this.current === "polling") {
      this.retryMs = FIRST_RETRY_MS;
      this.connect();
    } else if (this.askedAt === null) {
      this.ask();
    }
  };

  private ask(): void {
    this.askedAt = Date.now();
    this.send("ping", {});
  }

  private send(type: string, content: object): void {
    this.socket?.send(JSON.stringify({ type, data: content }));
  }

  private drop(): void {
    const { socket } = this;
    this.socket = null;
    this.askedAt = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  private change(state: ConnectionState): void {
    if (state === this.current) return;
    this.current = state;
    for (const listener of this.stateListeners) listener();
  }
}

/** The connection to the service: a WebSocket that reconnects, and its honest state. */
import { BASE } from "@/api/client";

/**
 * `connecting` before the first message, `live` while messages arrive, `polling` while the socket is down.
 * Whether polling succeeds is known from the queries.
 */
export type ConnectionState = "connecting" | "live" | "polling";

export type LiveMessage = { type: string; data: Record<string, unknown> };

/** Parts of a browser that tests replace. */
export interface SocketLike {
  send(text: string): void;
  close(): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: never) => void) | null;
}

const PING_MS = 10_000;
/** Time without a message after which a socket counts as dead: a laptop that slept, or a lost network. */
const SILENT_MS = 25_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8_000;

export class Connection {
  private socket: SocketLike | null = null;
  private retryMs = FIRST_RETRY_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pings: ReturnType<typeof setInterval> | undefined;
  private heardAt = 0;
  private current: ConnectionState = "connecting";
  private stopped = true;
  private readonly stateListeners = new Set<() => void>();
  private readonly topics = new Map<string, number>();

  constructor(
    private readonly onMessage: (message: LiveMessage) => void,
    /** Called after each connection: whatever happened before it may have been missed. */
    private readonly onConnected: () => void,
    private readonly open: (url: string) => SocketLike = (url) => new WebSocket(url) as unknown as SocketLike,
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
    this.stopped = false;
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    this.drop();
    clearTimeout(this.timer);
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
    clearTimeout(this.timer);
    this.drop();
    const socket = this.open(`${BASE.replace(/^http/, "ws")}/api/v1/ws`);
    this.socket = socket;
    this.heardAt = Date.now();
    socket.onmessage = (event) => this.receive(socket, event.data);
    socket.onclose = () => this.lose(socket);
    this.pings = setInterval(() => this.check(), PING_MS);
  }

  private receive(socket: SocketLike, text: unknown): void {
    if (socket !== this.socket || typeof text !== "string") return;
    this.heardAt = Date.now();
    if (this.current !== "live") {
      this.retryMs = FIRST_RETRY_MS;
      this.change("live");
      for (const topic of this.topics.keys()) this.send("subscribe", { topic });
      this.onConnected();
    }
    this.onMessage(JSON.parse(text) as LiveMessage);
  }

  private lose(socket: SocketLike): void {
    if (socket !== this.socket || this.stopped) return;
    this.drop();
    this.change("polling");
    this.timer = setTimeout(() => this.connect(), this.retryMs * (0.75 + Math.random() / 2));
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
  }

  private check(): void {
    const { socket } = this;
    if (!socket) return;
    if (Date.now() - this.heardAt > SILENT_MS) this.lose(socket);
    else if (this.current === "live") this.send("ping", {});
  }

  /** Tries again at once when the network or the page comes back. */
  private readonly wake = (): void => {
    if (document.visibilityState === "hidden") return;
    if (this.current === "polling") {
      this.retryMs = FIRST_RETRY_MS;
      this.connect();
    } else {
      this.check();
    }
  };

  private send(type: string, content: object): void {
    this.socket?.send(JSON.stringify({ type, data: content }));
  }

  private drop(): void {
    clearInterval(this.pings);
    const { socket } = this;
    this.socket = null;
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

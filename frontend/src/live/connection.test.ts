import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ANSWER_MS, CHECK_MS, Connection, QUIET_MS, SLEPT_MS, type SocketLike } from "./connection";

class Socket implements SocketLike {
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  isOpen = true;
  readonly sent: string[] = [];

  send(text: string): void {
    this.sent.push(JSON.parse(text).type);
  }
  close(): void {
    this.isOpen = false;
  }
  say(type = "pong", data = {}): void {
    this.onmessage?.({ data: JSON.stringify({ type, data }) });
  }
}

const sockets: Socket[] = [];
const last = () => sockets.at(-1) as Socket;
let reconnections = 0;
let connection: Connection;

beforeEach(() => {
  vi.useFakeTimers();
  sockets.length = 0;
  reconnections = 0;
  connection = new Connection(
    () => undefined,
    () => {
      reconnections += 1;
    },
    () => {
      sockets.push(new Socket());
      return last();
    },
  );
  connection.start();
});
afterEach(() => {
  connection.stop();
  vi.useRealTimers();
});

test("the connection is live only from the first message on", () => {
  expect(connection.state).toBe("connecting");
  last().say();
  expect(connection.state).toBe("live");
  expect(reconnections).toBe(0);
});

test("a closed socket is reported at once, and replaced", () => {
  last().say();
  last().onclose?.({});
  expect(connection.state).toBe("polling");
  vi.advanceTimersByTime(1_000);
  expect(sockets.length).toBe(2);
  expect(connection.state).toBe("polling");
  last().say();
  expect([connection.state, reconnections]).toEqual(["live", 1]);
});

test("a socket that never says anything is given up", () => {
  vi.advanceTimersByTime(ANSWER_MS + 2 * CHECK_MS);
  expect(connection.state).toBe("polling");
  expect(sockets[0]?.isOpen).toBe(false);
});

test("a quiet socket is asked, and stays if it answers", () => {
  last().say();
  for (let passed = 0; passed < 10 * QUIET_MS; passed += CHECK_MS) {
    const asked = last().sent.length;
    vi.advanceTimersByTime(CHECK_MS);
    if (last().sent.length > asked) last().say();
  }
  expect(last().sent.filter((type) => type === "ping").length).toBeGreaterThan(5);
  expect([connection.state, sockets.length]).toEqual(["live", 1]);
});

test("a quiet socket that does not answer is dead", () => {
  last().say();
  vi.advanceTimersByTime(QUIET_MS + ANSWER_MS + 3 * CHECK_MS);
  expect(sockets[0]?.sent).toEqual(["ping"]);
  expect(connection.state).toBe("polling");
});

test("after a sleep the state is not believed, not even for one ping", () => {
  last().say();
  vi.setSystemTime(Date.now() + CHECK_MS + SLEPT_MS + 1);
  vi.advanceTimersByTime(CHECK_MS);
  expect(connection.state).toBe("polling");
});

test("late timers of a hidden page are no sleep", () => {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
  last().say();
  vi.setSystemTime(Date.now() + 60_000);
  vi.advanceTimersByTime(CHECK_MS);
  expect([connection.state, last().sent]).toEqual(["live", ["ping"]]);
});

test("a page that comes into view checks a live connection and restores a lost one", () => {
  last().say();
  document.dispatchEvent(new Event("visibilitychange"));
  expect(last().sent).toEqual(["ping"]);
  last().onclose?.({});
  document.dispatchEvent(new Event("visibilitychange"));
  expect(sockets.length).toBe(2);
});

test("retries become rarer while the service is away, and none follows a stop", () => {
  for (let passed = 0; passed < 60_000; passed += 100) {
    vi.advanceTimersByTime(100);
    if (last().isOpen) last().onclose?.({});
  }
  expect(sockets.length).toBeGreaterThan(8);
  expect(sockets.length).toBeLessThan(20);
  connection.stop();
  const count = sockets.length;
  vi.advanceTimersByTime(60_000);
  expect(sockets.length).toBe(count);
});

test("followed topics are subscribed again after each reconnection, until nobody follows them", () => {
  const unfollow = [connection.follow("alerts"), connection.follow("alerts")];
  last().say();
  expect(last().sent).toEqual(["subscribe"]);
  last().onclose?.({});
  vi.advanceTimersByTime(1_000);
  last().say();
  expect(last().sent).toEqual(["subscribe"]);
  for (const end of unfollow) end();
  expect(last().sent).toEqual(["subscribe", "unsubscribe"]);
});

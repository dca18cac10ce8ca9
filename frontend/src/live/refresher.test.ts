import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Refresher } from "./refresher";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("many requests cause few readings, and one after the last request", async () => {
  let reads = 0;
  let lastRequest = 0;
  let lastRead = 0;
  const refresher = new Refresher(async () => {
    reads += 1;
    lastRead = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 200));
  });
  for (let count = 0; count < 100; count += 1) {
    refresher.request();
    lastRequest = Date.now();
    await vi.advanceTimersByTimeAsync(20);
  }
  await vi.advanceTimersByTimeAsync(2_000);
  expect(reads).toBeLessThan(8);
  expect(lastRead).toBeGreaterThanOrEqual(lastRequest);
});

test("a failed reading does not end the readings", async () => {
  const read = vi.fn().mockRejectedValueOnce(new Error("away")).mockResolvedValue(undefined);
  const refresher = new Refresher(read);
  refresher.request();
  refresher.request();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(read).toHaveBeenCalledTimes(2);
});

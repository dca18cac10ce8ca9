import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { activeQuery, taskQuery } from "@/api/queries";
import type { Task } from "@/api/types";
import { makeClient, makeTask, pollAnswer, serve } from "@/testing/tasks";
import { watchEndings } from "./endings";
import { EndingReporter, GATHER_MS, type Report } from "./reports";

let client = makeClient();
let reports: Report[] = [];
let stop = () => {};

beforeEach(() => {
  vi.useFakeTimers();
  client = makeClient();
  reports = [];
  stop = watchEndings(client, new EndingReporter(client, (report) => reports.push(report)).add);
});
afterEach(() => {
  stop();
  vi.useRealTimers();
});

function know(...tasks: Task[]): void {
  for (const task of tasks) client.setQueryData(taskQuery(task.id).queryKey, task);
}
async function gather(): Promise<void> {
  await vi.advanceTimersByTimeAsync(GATHER_MS);
}
const running = (id: string, batch: string | null = null) => makeTask({ id, batch_id: batch });
const ended = (id: string, status: Task["status"] = "completed", batch: string | null = null) =>
  makeTask({ id, status, batch_id: batch });

test("each end is reported once, and none that came before the page", async () => {
  know(ended("old"), running("a"));
  know(ended("a"), ended("a"), ended("old"));
  await gather();
  expect(reports).toMatchObject([{ kind: "job", task: { id: "a" } }]);
});

test("a retried job is reported again", async () => {
  know(running("a"), ended("a", "failed"));
  await gather();
  know(makeTask({ id: "a", status: "pending" }), ended("a"));
  await gather();
  expect(reports.map((report) => report.kind === "job" && report.task.status)).toEqual([
    "failed",
    "completed",
  ]);
});

test("a cancelled job is not reported", async () => {
  know(running("a"), ended("a", "cancelled"));
  await gather();
  expect(reports).toEqual([]);
});

test("a batch is reported once, when its last job has ended", async () => {
  const asked = serve(() => ({
    id: "batch_1",
    status: "failed",
    total: 3,
    completed: 2,
    failed: 1,
    tasks: [],
  }));
  know(running("a", "batch_1"), running("b", "batch_1"), running("c", "batch_1"));
  know(ended("a", "completed", "batch_1"));
  await gather();
  expect([reports, asked]).toEqual([[], []]);
  know(ended("b", "failed", "batch_1"), ended("c", "completed", "batch_1"));
  await gather();
  expect(reports).toMatchObject([{ kind: "batch", batch: { completed: 2, failed: 1 } }]);
});

test("a batch of which the page knows only a part is not reported early", async () => {
  serve(() => ({ id: "batch_1", status: "processing", total: 3, completed: 1, failed: 0, tasks: [] }));
  know(running("a", "batch_1"), ended("a", "completed", "batch_1"));
  await gather();
  expect(reports).toEqual([]);
});

test("many ends at once, as after a sleep, are one report", async () => {
  const ids = ["a", "b", "c", "d", "e"];
  know(...ids.map((id) => running(id)));
  know(...ids.map((id) => ended(id, id === "e" ? "failed" : "completed")));
  await gather();
  expect(reports).toEqual([{ kind: "many", completed: 4, failed: 1 }]);
});

test("polling notices an end, because the job is missing among the active ones", async () => {
  const polled = [[running("a"), running("b")], [running("b")]];
  const asked = serve((path) =>
    path.includes("poll") ? pollAnswer(polled.shift() ?? []) : ended("a", "failed"),
  );
  await client.fetchQuery(activeQuery);
  await client.fetchQuery({ ...activeQuery, staleTime: 0 });
  await gather();
  expect(asked.filter((path) => path.includes("/generation/"))).toEqual(["GET /api/v1/generation/a"]);
  expect(reports).toMatchObject([{ kind: "job", task: { id: "a", status: "failed" } }]);
});

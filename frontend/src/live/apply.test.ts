import { beforeEach, expect, test, vi } from "vitest";
import { activeQuery, taskQuery } from "@/api/queries";
import type { Task } from "@/api/types";
import { makeClient, makeTask, pollAnswer, serve } from "@/testing/tasks";
import { applyMessage } from "./apply";

const refreshQueue = vi.fn();
let client = makeClient();

beforeEach(() => {
  client = makeClient();
  refreshQueue.mockClear();
});

function receive(type: string, data: Record<string, unknown>): void {
  applyMessage(client, { type, data }, refreshQueue);
}
function know(task: Task): void {
  client.setQueryData(taskQuery(task.id).queryKey, task);
}
function known(id = "video_1"): Task | undefined {
  return client.getQueryData(taskQuery(id).queryKey);
}

test("a step changes its own job only", () => {
  know(makeTask());
  know(makeTask({ id: "video_2" }));
  const other = known("video_2");
  receive("detailed_generation_progress", { task_id: "video_1", current_step: 2, progress: 20 });
  expect(known()).toMatchObject({ current_step: 2, progress: 20, status: "processing" });
  expect(known("video_2")).toBe(other);
  expect(refreshQueue).not.toHaveBeenCalled();
});

test("a cancellation shows until it is true", () => {
  know(makeTask());
  receive("task_update", { task_id: "video_1", status: "processing", message: "cancelling" });
  expect(known()).toMatchObject({ status: "processing", cancel_requested: true });
  receive("task_update", { task_id: "video_1", status: "cancelled", message: "cancelled" });
  expect(known()).toMatchObject({ status: "cancelled", cancel_requested: false });
});

test("a failure arrives with its message", () => {
  know(makeTask());
  const error = { message: "No memory.", code: "out_of_memory", suggestions: ["Use fewer frames."] };
  receive("task_update", { task_id: "video_1", status: "failed", message: "No memory.", error });
  expect(known()).toMatchObject({ status: "failed", error, error_message: "No memory." });
});

test("a step that arrives after the end changes nothing", () => {
  know(makeTask({ status: "completed", progress: 100 }));
  receive("detailed_generation_progress", { task_id: "video_1", progress: 50 });
  expect(known()).toMatchObject({ status: "completed", progress: 100 });
});

test("the lists are read again when a job moves between them, not for each stage", async () => {
  serve(() => pollAnswer([makeTask(), makeTask({ id: "video_2", status: "pending" })]));
  await client.fetchQuery(activeQuery);
  receive("queue_update", { task_id: "video_1", status: "processing" });
  receive("queue_update", { task_id: "video_2", status: "pending" });
  expect(refreshQueue).toHaveBeenCalledTimes(0);
  receive("queue_update", { task_id: "video_2", status: "processing" });
  receive("queue_update", { task_id: "video_1", status: "completed" });
  receive("queue_update", { task_id: "video_3", status: "pending" });
  receive("queue_update", { reordered: 2 });
  receive("queue_update", { paused: true });
  expect(refreshQueue).toHaveBeenCalledTimes(5);
});

test("a response that is older than a message does not take a job back", async () => {
  know(makeTask());
  serve(() => {
    receive("task_update", { task_id: "video_1", status: "completed", stage: "completed", progress: 100 });
    return pollAnswer([makeTask({ current_step: 9 })]);
  });
  await client.fetchQuery(activeQuery);
  expect(known()).toMatchObject({ status: "completed", progress: 100 });
  serve(() => makeTask({ status: "pending", stage: "queued" }));
  await client.fetchQuery({ ...taskQuery("video_1"), staleTime: 0 });
  expect(known()).toMatchObject({ status: "pending" });
});

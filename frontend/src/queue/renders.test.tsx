import { QueryClientProvider } from "@tanstack/react-query";
import {
  createMemoryHistory,
  createRootRoute,
  createRoute,
  createRouter,
  RouterProvider,
} from "@tanstack/react-router";
import { act, render, screen } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import type { Task } from "@/api/types";
import { applyMessage } from "@/live/apply";
import { SessionGate } from "@/session/session";
import { makeClient, makeTask, pollAnswer, serve } from "@/testing/tasks";
import { QueuePage } from "./page";

const renders = new Map<string, number>();
// Each card and each row renders its line about the job once with itself.
vi.mock("./about", async (original) => {
  const { About, ...rest } = await original<typeof import("./about")>();
  return {
    ...rest,
    About: (props: { task: Task }) => {
      renders.set(props.task.id, (renders.get(props.task.id) ?? 0) + 1);
      return <About {...props} />;
    },
  };
});

const JOBS = [
  makeTask({ id: "video_1", prompt: "first" }),
  makeTask({ id: "video_2", prompt: "second" }),
  makeTask({ id: "video_3", prompt: "third", status: "pending", stage: "queued", queue_position: 1 }),
];

test("a second of 20 progress messages renders the job's own card 20 times, and nothing else", async () => {
  serve((path) => {
    if (path.includes("/session"))
      return { needs_key: false, key_id: null, owner: null, scopes: ["read", "submit", "admin"] };
    if (path.includes("/queue/poll")) return pollAnswer(JOBS);
    if (path.includes("/queue?"))
      return { tasks: [], completed_tasks: 0, failed_tasks: 0, cancelled_tasks: 0 };
    return { data: [] };
  });
  vi.spyOn(window, "scrollTo").mockReturnValue(undefined);
  const root = createRootRoute();
  const page = createRoute({ getParentRoute: () => root, path: "/", component: QueuePage });
  const router = createRouter({ routeTree: root.addChildren([page]), history: createMemoryHistory() });
  const client = makeClient();
  render(
    <QueryClientProvider client={client}>
      <SessionGate>
        {/* biome-ignore lint/suspicious/noExplicitAny: a router of this page alone */}
        <RouterProvider router={router as any} />
      </SessionGate>
    </QueryClientProvider>,
  );
  await screen.findByText("third", {}, { timeout: 20_000 });
  await vi.waitFor(() => expect(client.isFetching()).toBe(0), 20_000);
  renders.clear();
  const refreshQueue = vi.fn();
  for (let step = 2; step < 22; step += 1) {
    const data = { task_id: "video_1", current_step: step, total_steps: 50, progress: step * 2 };
    applyMessage(client, { type: "detailed_generation_progress", data }, refreshQueue);
    await act(() => new Promise((resolve) => setTimeout(resolve))); // the cache notifies in a task of its own
    expect(screen.getByText(new RegExp(`Step ${step} of 50`))).toBeTruthy();
  }
  expect([...renders]).toEqual([["video_1", 20]]);
  expect(refreshQueue).not.toHaveBeenCalled();
}, 30_000);

/** Jobs and a service for tests. */
import { QueryClient } from "@tanstack/react-query";
import type { Middleware } from "openapi-fetch";
import { api } from "@/api/client";
import type { Task } from "@/api/types";

/** Returns a job as the service describes it, with some fields changed. */
export function makeTask(changes: Partial<Task> = {}): Task {
  const task = {
    id: "video_1",
    model: "tiny-t2v",
    model_type: "tiny-t2v",
    prompt: "a red circle",
    batch_id: null,
    resolution: "64x64",
    width: 64,
    height: 64,
    num_frames: 5,
    fps: 16,
    seed: 1,
    segments: [],
    loras: [],
    status: "processing",
    stage: "generating",
    progress: 10,
    current_step: 1,
    total_steps: 10,
    segment: null,
    total_segments: null,
    eta_seconds: 9,
    priority: "normal",
    queue_position: null,
    cancel_requested: false,
    attempt: 1,
    created_at: "2026-01-01T00:00:00Z",
    started_at: "2026-01-01T00:00:00Z",
    completed_at: null,
    error: null,
    error_message: null,
    output_path: null,
    is_mock: false,
    ...changes,
  };
  return task as unknown as Task;
}

export function makeClient(): QueryClient {
  return new QueryClient({
    defaultOptions: { queries: { retry: false, staleTime: Number.POSITIVE_INFINITY, networkMode: "always" } },
  });
}

let server: Middleware | null = null;

/** Answers the page's requests in the service's place, and returns the addresses that it asked for. */
export function serve(answer: (path: string) => unknown): string[] {
  const asked: string[] = [];
  if (server) api.eject(server);
  server = {
    async onRequest({ request }) {
      const { pathname, search } = new URL(request.url);
      asked.push(`${request.method} ${pathname}${search}`);
      const body = await answer(pathname + search);
      const missing = { error: { message: "Not found.", code: "not_found" } };
      return body ? Response.json(body) : Response.json(missing, { status: 404 });
    },
  };
  api.use(server);
  return asked;
}

/** Returns the answer of `GET /api/v1/queue/poll` with some jobs. */
export function pollAnswer(tasks: readonly Task[], paused = false) {
  const count = (status: string) => tasks.filter((task) => task.status === status).length;
  return { tasks, paused, pending_tasks: count("pending"), processing_tasks: count("processing") };
}

/** The queries of the page: one key and one function for each thing that it reads. */
import { infiniteQueryOptions, type QueryClient, queryOptions } from "@tanstack/react-query";
import { api, data } from "./client";
import { newest } from "./newest";
import type { Task } from "./types";

/** The running jobs, and the pending jobs in the order in which they are queued. */
export type Active = {
  paused: boolean;
  running: string[];
  pending: string[];
  /** Number of all pending jobs; `pending` has the first of them. */
  pendingTotal: number;
};
const ACTIVE_KEY = ["queue", "active"] as const;
/** Largest number of jobs that left the queue unnoticed and that are looked up one by one. */
const LOOKED_UP = 50;

export const activeQuery = queryOptions({
  queryKey: ACTIVE_KEY,
  queryFn: async ({ client, signal }): Promise<Active> => {
    const askedAt = performance.now();
    const query = { active_only: true, limit: 1000 };
    const answer = await data(api.GET("/api/v1/queue/poll", { params: { query }, signal }));
    keepTasks(client, answer.tasks, askedAt);
    const idsOf = (isRunning: boolean) =>
      answer.tasks.filter((task) => (task.status === "processing") === isRunning).map((task) => task.id);
    void lookUpEnded(client, new Set(answer.tasks.map((task) => task.id)));
    return {
      paused: answer.paused,
      running: idsOf(true),
      pending: idsOf(false),
      pendingTotal: answer.pending_tasks,
    };
  },
});

/** Reads the jobs that have left the queue without a message: while the socket was down, or the machine slept. */
async function lookUpEnded(client: QueryClient, active: ReadonlySet<string>): Promise<void> {
  const before = client.getQueryData<Active>(ACTIVE_KEY);
  const gone = [...(before?.running ?? []), ...(before?.pending ?? [])].filter((id) => !active.has(id));
  const unknown = gone.filter(
    (id) => !isEnded(client.getQueryData(taskQuery(id).queryKey)?.status ?? "failed"),
  );
  await Promise.allSettled(
    unknown
      .slice(0, LOOKED_UP)
      .map((id) => client.fetchQuery({ ...taskQuery(id), staleTime: 0, retry: false })),
  );
}

export type EndedState = "completed" | "failed" | "cancelled";
export const ENDED_STATES: readonly EndedState[] = ["completed", "failed", "cancelled"];
const ENDED_PAGE = 30;

export function isEnded(status: string): status is EndedState {
  return (ENDED_STATES as readonly string[]).includes(status);
}

/** The ended jobs in some states, newest first, in pages; and the number of jobs in each state. */
export function endedQuery(states: readonly EndedState[]) {
  return infiniteQueryOptions({
    queryKey: ["queue", "ended", ...states],
    queryFn: async ({ client, signal, pageParam }) => {
      const askedAt = performance.now();
      const query = { status: [...states], limit: ENDED_PAGE, ...(pageParam ? { after: pageParam } : {}) };
      const answer = await data(api.GET("/api/v1/queue", { params: { query }, signal }));
      keepTasks(client, answer.tasks, askedAt);
      return {
        counts: {
          completed: answer.completed_tasks,
          failed: answer.failed_tasks,
          cancelled: answer.cancelled_tasks,
        },
        ids: answer.tasks.map((task) => task.id),
      };
    },
    initialPageParam: "",
    getNextPageParam: ({ ids }) => (ids.length < ENDED_PAGE ? undefined : ids.at(-1)),
  });
}

/** One job. Live messages change it in place, so that only its own card is drawn again. */
export function taskQuery(id: string) {
  const queryKey = ["task", id] as const;
  return queryOptions({
    queryKey,
    queryFn: async ({ client, signal }): Promise<Task> => {
      const askedAt = performance.now();
      const path = { task_id: id };
      const task = await data(api.GET("/api/v1/generation/{task_id}", { params: { path }, signal }));
      return newest(task, client.getQueryData<Task>(queryKey), askedAt);
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** The jobs that one request made, and how many of them are done. */
export function batchQuery(id: string) {
  return queryOptions({
    queryKey: ["queue", "batch", id],
    queryFn: ({ signal }) =>
      data(api.GET("/api/v1/batches/{batch_id}", { params: { path: { batch_id: id } }, signal })),
  });
}

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => (await data(api.GET("/v1/models", { signal }))).data,
  staleTime: 60_000,
});

export const modelStatusQuery = queryOptions({
  queryKey: ["model-status"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/models/status", { signal })),
});

export const lorasQuery = queryOptions({
  queryKey: ["loras"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/lora/list", { signal })),
});

export const healthQuery = queryOptions({
  queryKey: ["health"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/system/health", { signal })),
});

export const statsQuery = queryOptions({
  queryKey: ["stats"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/system/stats", { signal })),
});

export const generationModeQuery = queryOptions({
  queryKey: ["generation-mode"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/system/generation-mode", { signal })),
});

function keepTasks(client: QueryClient, tasks: readonly Task[], askedAt: number): void {
  for (const task of tasks) {
    client.setQueryData<Task>(taskQuery(task.id).queryKey, (known) => newest(task, known, askedAt));
  }
}

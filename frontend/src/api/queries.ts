/** The queries of the page: one key and one function for each thing that it reads. */
import { type QueryClient, queryOptions } from "@tanstack/react-query";
import { api, data } from "./client";
import type { Task } from "./types";

/** The running jobs, then the pending jobs in the order in which they are queued. */
export const activeQuery = queryOptions({
  queryKey: ["queue", "active"],
  queryFn: async ({ client, signal }) => {
    const answer = await data(
      api.GET("/api/v1/queue/poll", { params: { query: { active_only: true, limit: 1000 } }, signal }),
    );
    keepTasks(client, answer.tasks);
    return { paused: answer.paused, ids: answer.tasks.map((task) => task.id) };
  },
});

/** The newest jobs in every state, and the number of jobs in each state. */
export const recentQuery = queryOptions({
  queryKey: ["queue", "recent"],
  queryFn: async ({ client, signal }) => {
    const answer = await data(api.GET("/api/v1/queue", { params: { query: { limit: 100 } }, signal }));
    keepTasks(client, answer.tasks);
    const { tasks, queue: _, current_task: __, ...counts } = answer;
    return { ...counts, ids: tasks.map((task) => task.id) };
  },
});

/** One job. Live messages change it in place, so that only its own card is drawn again. */
export function taskQuery(id: string) {
  return queryOptions({
    queryKey: ["task", id],
    queryFn: ({ signal }) =>
      data(api.GET("/api/v1/generation/{task_id}", { params: { path: { task_id: id } }, signal })),
    staleTime: Number.POSITIVE_INFINITY,
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

function keepTasks(client: QueryClient, tasks: readonly Task[]): void {
  for (const task of tasks) client.setQueryData(taskQuery(task.id).queryKey, task);
}

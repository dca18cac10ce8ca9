/** The effect of live messages on what the page has read. */
import type { QueryClient } from "@tanstack/react-query";
import { statsQuery, taskQuery } from "@/api/queries";
import type { Stats, Task } from "@/api/types";
import type { LiveMessage } from "./connection";

const FIELDS = [
  "status",
  "stage",
  "progress",
  "current_step",
  "total_steps",
  "segment",
  "total_segments",
  "eta_seconds",
  "attempt",
  "error",
  "output_path",
] as const;
const ENDED = new Set(["completed", "failed", "cancelled"]);

export function isEnded(status: string): boolean {
  return ENDED.has(status);
}

/** Applies a message. A change of a job's state makes the lists that show it stale; a step changes the job only. */
export function applyMessage(client: QueryClient, { type, data }: LiveMessage): void {
  if (type === "task_update" || type === "detailed_generation_progress") {
    applyToTask(client, data);
  } else if (type === "queue_update") {
    void client.invalidateQueries({ queryKey: ["queue"] });
    if (data.status === "deleted" || data.status === "completed") {
      void client.invalidateQueries({ queryKey: ["outputs"] });
    }
  } else if (type === "system_stats_update") {
    client.setQueryData(statsQuery.queryKey, data as Stats);
  } else if (type === "model_status_update" || type === "download_progress_update") {
    void client.invalidateQueries({ queryKey: ["model-status"] });
  }
}

function applyToTask(client: QueryClient, data: Record<string, unknown>): void {
  const id = String(data.task_id);
  const { queryKey } = taskQuery(id);
  const known = client.getQueryData<Task>(queryKey);
  if (!known || (isEnded(known.status) && data.status === undefined)) return;
  const changes = Object.fromEntries(FIELDS.filter((name) => name in data).map((name) => [name, data[name]]));
  const task = { ...known, ...changes } as Task;
  if ("message" in data) task.cancel_requested = data.message === "cancelling";
  client.setQueryData(queryKey, task);
  if (task.status !== known.status) void client.invalidateQueries({ queryKey });
}

/** The effect of live messages on what the page has read. */
import type { QueryClient } from "@tanstack/react-query";
import { hear, LIVE_FIELDS } from "@/api/newest";
import { activeQuery, isEnded, statsQuery, taskQuery } from "@/api/queries";
import type { Stats, Task } from "@/api/types";
import type { LiveMessage } from "./connection";

/** Applies a message. `refreshQueue` is called if the lists of jobs have changed; a step changes its own job only. */
export function applyMessage(
  client: QueryClient,
  { type, data }: LiveMessage,
  refreshQueue: () => void,
): void {
  if (type === "task_update" || type === "detailed_generation_progress") {
    applyToTask(client, data);
  } else if (type === "queue_update") {
    if (changesLists(client, data)) refreshQueue();
    if (data.status === "deleted") {
      client.removeQueries({ ...taskQuery(String(data.task_id)), type: "inactive" });
    }
    if (data.status === "deleted" || data.status === "completed") {
      void client.invalidateQueries({ queryKey: ["outputs"] });
    }
  } else if (type === "system_stats_update") {
    client.setQueryData(statsQuery.queryKey, data as Stats);
  } else if (type === "model_status_update" || type === "download_progress_update") {
    void client.invalidateQueries({ queryKey: ["model-status"] });
  }
}

/** Returns whether the lists must be read again. A running job that enters its next stage stays where it is. */
function changesLists(client: QueryClient, data: Record<string, unknown>): boolean {
  const active = client.getQueryData(activeQuery.queryKey);
  if (!active || data.task_id === undefined) return true;
  const list = { processing: active.running, pending: active.pending }[String(data.status)];
  return !list?.includes(String(data.task_id));
}

function applyToTask(client: QueryClient, data: Record<string, unknown>): void {
  const id = String(data.task_id);
  const { queryKey } = taskQuery(id);
  hear(id);
  const known = client.getQueryData<Task>(queryKey);
  if (!known || (isEnded(known.status) && data.status === undefined)) return;
  const task: Task = {
    ...known,
    ...Object.fromEntries(LIVE_FIELDS.filter((name) => name in data).map((name) => [name, data[name]])),
  };
  if ("message" in data) task.cancel_requested = data.message === "cancelling";
  if ("error" in data) task.error_message = task.error ? String(task.error.message) : null;
  if (task.status !== "pending") task.queue_position = null;
  client.setQueryData(queryKey, task);
  if (task.status !== known.status) void client.invalidateQueries({ queryKey });
}

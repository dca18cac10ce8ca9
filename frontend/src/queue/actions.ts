/** Actions on the whole queue. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { type Active, activeQuery, taskQuery } from "@/api/queries";
import type { Task } from "@/api/types";
import { useText } from "@/text";
import { useFailureToast, useToast } from "@/ui/toaster";

/** Returns the actions. Their failures are shown as messages, and the lists are read again after each. */
export function useQueueActions() {
  const client = useQueryClient();
  const toast = useToast();
  const fail = useFailureToast();
  const text = useText();
  const options = {
    onError: fail,
    onSettled: () => client.invalidateQueries({ queryKey: ["queue"] }),
  };
  const pause = useMutation({
    mutationFn: (paused: boolean) =>
      data(paused ? api.POST("/api/v1/queue/pause") : api.POST("/api/v1/queue/resume")),
    ...options,
  });
  const clear = useMutation({
    mutationFn: () => data(api.POST("/api/v1/queue/clear")),
    ...options,
    onSuccess: ({ cleared }) =>
      toast({ title: text.queue.cleared(cleared), detail: text.queue.clearedHint, tone: "good" }),
  });
  const cancelBatch = useMutation({
    mutationFn: (id: string) =>
      data(api.POST("/api/v1/batches/{batch_id}/cancel", { params: { path: { batch_id: id } } })),
    ...options,
    onSettled: async (batch) => {
      await Promise.all((batch?.tasks ?? []).map((task) => client.invalidateQueries(taskQuery(task.id))));
      await options.onSettled();
    },
  });
  /** Gives jobs a new order among the places that they have. The page shows it at once; a failure takes it back. */
  const reorder = useMutation({
    mutationFn: (ids: readonly string[]) =>
      data(api.POST("/api/v1/queue/reorder", { body: { task_ids: [...ids] } })),
    ...options,
    onMutate: async (ids) => {
      await client.cancelQueries(activeQuery);
      client.setQueryData<Active>(activeQuery.queryKey, (active) => active && withOrder(active, ids));
      const known = ids.map((id) => client.getQueryData<Task>(taskQuery(id).queryKey));
      const positions = known.map((task) => task?.queue_position ?? 0).sort((one, other) => one - other);
      known.forEach((task, index) => {
        if (task)
          client.setQueryData<Task>(taskQuery(task.id).queryKey, {
            ...task,
            queue_position: positions[index] ?? null,
          });
      });
    },
  });
  return { pause, clear, cancelBatch, reorder };
}

function withOrder(active: Active, ids: readonly string[]): Active {
  const moved = new Set(ids);
  const next = ids.values();
  return { ...active, pending: active.pending.map((id) => (moved.has(id) ? (next.next().value ?? id) : id)) };
}

/** What a user can do to a job, from every page. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { taskQuery } from "@/api/queries";
import { useText } from "@/text";
import { useToast } from "@/ui/toaster";

/** Returns the actions on one job. A failure is shown as a message; the state shown is always the service's. */
export function useTaskActions(id: string) {
  const client = useQueryClient();
  const toast = useToast();
  const text = useText();
  const path = { params: { path: { task_id: id } } };
  const options = {
    onError: (error: Error) =>
      toast({ title: text.errors.title, detail: error.message, tone: "bad" as const }),
    onSettled: () =>
      Promise.all([
        client.invalidateQueries(taskQuery(id)),
        client.invalidateQueries({ queryKey: ["queue"] }),
        client.invalidateQueries({ queryKey: ["outputs"] }),
      ]),
  };
  const cancel = useMutation({
    mutationFn: () => data(api.POST("/api/v1/queue/{task_id}/cancel", path)),
    ...options,
  });
  const retry = useMutation({
    mutationFn: () => data(api.POST("/api/v1/queue/{task_id}/retry", path)),
    ...options,
  });
  return { cancel, retry };
}

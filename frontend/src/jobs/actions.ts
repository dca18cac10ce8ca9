/** Actions on one job, for every page. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { taskQuery } from "@/api/queries";
import { useFailureToast } from "@/ui/toaster";

/** Returns the actions on one job. A failure is shown as a message; the state shown is always the service's. */
export function useTaskActions(id: string) {
  const client = useQueryClient();
  const fail = useFailureToast();
  const path = { params: { path: { task_id: id } } };
  const options = {
    onError: fail,
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

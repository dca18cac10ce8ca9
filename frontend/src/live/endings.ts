/** Notices that jobs end, whichever way the page learns of it. */
import type { QueryClient } from "@tanstack/react-query";
import { isEnded } from "@/api/queries";
import type { Task } from "@/api/types";

/** Calls `onEnding` for each job that the page knew as unfinished and that has ended, until the result is called. */
export function watchEndings(client: QueryClient, onEnding: (task: Task) => void): () => void {
  const unfinished = new Set<string>();
  return client.getQueryCache().subscribe((event) => {
    if (event.type !== "updated" || event.action.type !== "success") return;
    if (event.query.queryKey[0] !== "task") return;
    const task = event.query.state.data as Task;
    if (!isEnded(task.status)) unfinished.add(task.id);
    else if (unfinished.delete(task.id)) onEnding(task);
  });
}

import { useQuery } from "@tanstack/react-query";
import { isUnavailable } from "@/api/client";
import { activeQuery, modelsQuery, taskQuery } from "@/api/queries";
import type { Task } from "@/api/types";

/** Returns a job, and renders the component again when the job changes, for whatever reason. */
export function useTask(id: string): Task | undefined {
  return useQuery(taskQuery(id)).data;
}

/** Returns whether the service is away, so that running jobs may be elsewhere than the page shows. */
export function useIsStale(): boolean {
  return isUnavailable(useQuery({ ...activeQuery, select: () => null }).error);
}

/** Returns the title of a model; its id while the titles are unknown. */
export function useModelTitle(id: string): string {
  return useQuery(modelsQuery).data?.find((model) => model.id === id)?.title ?? id;
}

/** Deletion of ended jobs, which waits while the user can undo it. */
import { useQueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { api, data } from "@/api/client";
import { useText } from "@/text";
import { useFailureToast, useToast } from "@/ui/toaster";

const listeners = new Set<() => void>();
/** The jobs that will be deleted, or are being deleted. */
let doomed: ReadonlySet<string> = new Set();

function change(id: string, isDoomed: boolean): void {
  doomed = new Set([...doomed].filter((other) => other !== id).concat(isDoomed ? [id] : []));
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Returns the jobs that the lists leave out. */
export function useDoomed(): ReadonlySet<string> {
  return useSyncExternalStore(subscribe, () => doomed);
}

/** Returns a function that deletes a job once its message is gone, unless the user undoes it. A failure shows the job again. */
export function useDeletion(): (id: string, prompt: string) => void {
  const client = useQueryClient();
  const toast = useToast();
  const fail = useFailureToast();
  const text = useText();
  const remove = async (id: string) => {
    try {
      await data(api.DELETE("/api/v1/queue/{task_id}", { params: { path: { task_id: id } } }));
      await client.invalidateQueries({ queryKey: ["queue"] });
    } catch (error) {
      fail(error);
    }
    change(id, false);
  };
  return (id, prompt) => {
    let isUndone = false;
    const undo = () => {
      isUndone = true;
      change(id, false);
    };
    change(id, true);
    toast({
      title: text.queue.deleted,
      detail: prompt,
      action: { label: text.common.undo, run: undo },
      onClosed: () => {
        if (!isUndone) void remove(id);
      },
    });
  };
}

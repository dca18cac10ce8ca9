/** The rows of the waiting list: single jobs, and the neighboring jobs of one batch. */
import type { Task } from "@/api/types";

export type Entry = {
  key: string;
  ids: readonly string[];
  batchId: string | null;
  priority: Task["priority"];
};

/** Groups jobs, in the order in which they are queued. Jobs that are not known yet are single. */
export function groupJobs(ids: readonly string[], find: (id: string) => Task | undefined): Entry[] {
  const entries: (Entry & { ids: string[] })[] = [];
  for (const id of ids) {
    const task = find(id);
    const batchId = task?.batch_id ?? null;
    const priority = task?.priority ?? "normal";
    const last = entries.at(-1);
    if (last && batchId !== null && last.batchId === batchId && last.priority === priority) last.ids.push(id);
    else entries.push({ key: id, ids: [id], batchId, priority });
  }
  return entries;
}

export type Move = {
  /** The jobs between the old and the new place, in their new order. All others stay where they are. */
  ids: string[];
  entries: Entry[];
  /** Place of the moved entry, from 0. */
  index: number;
  /** Whether the entry would have left the jobs of its priority, where it stays. */
  isLimited: boolean;
};

/** Moves an entry, as far as its priority allows. */
export function moveEntry(entries: readonly Entry[], from: number, wanted: number): Move | null {
  const moving = entries[from];
  if (!moving) return null;
  const isPeer = (entry: Entry) => entry.priority === moving.priority;
  const index = Math.min(Math.max(wanted, entries.findIndex(isPeer)), entries.findLastIndex(isPeer));
  const moved = entries.filter((entry) => entry !== moving);
  moved.splice(index, 0, moving);
  const [first, last] = [Math.min(from, index), Math.max(from, index)];
  const ids = first === last ? [] : moved.slice(first, last + 1).flatMap((entry) => entry.ids);
  return { ids, entries: moved, index, isLimited: index !== wanted };
}

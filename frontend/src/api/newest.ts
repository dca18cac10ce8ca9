/** Keeps responses that are older than a live message from taking its place. */
import type { Task } from "./types";

/** The fields of a job that live messages carry. */
export const LIVE_FIELDS = [
  "status",
  "stage",
  "progress",
  "current_step",
  "total_steps",
  "segment",
  "total_segments",
  "eta_seconds",
  "attempt",
  "cancel_requested",
  "error",
  "error_message",
  "output_path",
] as const satisfies readonly (keyof Task)[];

const heardAt = new Map<string, number>();

/** Remembers that a message about a job has just arrived. */
export function hear(id: string): void {
  heardAt.set(id, performance.now());
}

/**
 * Returns a job as a response has it. If a message arrived after the request was sent, the response may be older: the
 * fields that messages carry stay as they are known.
 */
export function newest(task: Task, known: Task | undefined, askedAt: number): Task {
  const heard = heardAt.get(task.id);
  if (!known || heard === undefined || heard < askedAt) return task;
  return { ...task, ...Object.fromEntries(LIVE_FIELDS.map((name) => [name, known[name]])) };
}

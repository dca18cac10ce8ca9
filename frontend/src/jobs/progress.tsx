import type { Task } from "@/api/types";
import { useText } from "@/text";
import { ProgressBar } from "@/ui/notices";

/** The phase of a job in words: what happens now, the step, and the time that is left. */
export function useProgressText(task: Task): { phase: string; details: string[] } {
  const text = useText();
  if (task.status !== "processing") {
    const phase = text.stages[task.stage] ?? text.stages[task.status] ?? task.stage;
    const waits = task.status === "pending" && task.queue_position !== null;
    return { phase, details: waits && task.queue_position ? [text.task.position(task.queue_position)] : [] };
  }
  const phase = (task.cancel_requested ? text.stages.cancelling : text.stages[task.stage]) ?? task.stage;
  const details: string[] = [];
  if (task.segment && task.total_segments) details.push(text.task.segment(task.segment, task.total_segments));
  if (task.stage === "generating") details.push(text.task.step(task.current_step, task.total_steps));
  if (task.eta_seconds !== null && !task.cancel_requested)
    details.push(text.task.left(text.common.duration(task.eta_seconds)));
  if (task.attempt > 1) details.push(text.task.attempt(task.attempt));
  return { phase, details };
}

/** The progress of an unfinished job. While the service is away, it is the last known one, and has no estimate. */
export function JobProgress({
  task,
  isStale = false,
  className,
}: {
  task: Task;
  isStale?: boolean;
  className?: string;
}) {
  const text = useText();
  const { phase, details } = useProgressText(isStale ? { ...task, eta_seconds: null } : task);
  const isKnown = task.status === "pending" || task.progress > 0;
  return (
    <div className={className}>
      <p className="flex flex-wrap items-baseline justify-between gap-x-3 text-sm">
        <span className="font-medium">{isStale ? text.queue.stale(phase) : phase}</span>
        <span className="text-muted text-xs tabular">{details.join(" · ")}</span>
      </p>
      <ProgressBar value={isKnown || isStale ? task.progress : null} label={phase} className="mt-1.5" />
    </div>
  );
}

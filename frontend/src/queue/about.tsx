import type { Task } from "@/api/types";
import { useModelTitle } from "@/jobs/use-task";
import { useText } from "@/text";
import { cx } from "@/ui/cx";

/** The model, size, length and seed of a job in one line. */
export function About({ task, className }: { task: Task; className?: string }) {
  const text = useText();
  const title = useModelTitle(task.model);
  const seconds = (task.num_frames / task.fps).toFixed(1);
  const parts = [title, task.resolution.replace("x", "×"), `${seconds} s`, `${text.task.seed} ${task.seed}`];
  return <p className={cx("truncate text-muted text-xs tabular", className)}>{parts.join(" · ")}</p>;
}

/** The priority of a job, unless it is the normal one. */
export function PriorityMark({ task }: { task: Task }) {
  const text = useText();
  if (task.priority === "normal") return null;
  const isHigh = task.priority === "high";
  return (
    <span
      className={cx(
        "shrink-0 rounded-sm px-1.5 py-px text-xs",
        isHigh ? "bg-accent-soft text-accent-text" : "bg-sunken text-muted",
      )}
    >
      {text.queue.priorities[task.priority]}
    </span>
  );
}

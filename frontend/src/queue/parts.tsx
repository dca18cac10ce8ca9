import type { Task } from "@/api/types";
import { useText } from "@/text";
import { cx } from "@/ui/cx";

/** The parts of a long video: those that are done, the present one, and those to come. */
export function Parts({ task }: { task: Task }) {
  const text = useText();
  if (task.segments.length === 0) return null;
  // Without a running part, the job loads a model, or joins the parts when all steps are done.
  const isJoining = task.total_steps > 0 && task.current_step >= task.total_steps;
  const present = task.segment ?? (isJoining ? task.segments.length + 1 : 0);
  return (
    <ol aria-label={text.queue.parts} className="mt-2 flex gap-1.5">
      {task.segments.map((segment, index) => {
        const number = index + 1;
        const isPresent = number === present;
        return (
          <li
            key={index}
            title={segment.prompt}
            aria-current={isPresent ? "step" : undefined}
            className={cx(
              "min-w-0 flex-1 truncate rounded-sm px-2 py-1 text-xs",
              isPresent && "bg-accent-soft text-accent-text",
              number < present && "bg-good-soft text-good",
              number > present && "bg-sunken text-muted",
            )}
          >
            <span className="tabular">{number}</span>
            <span className="ml-1.5 max-sm:sr-only">{segment.prompt}</span>
          </li>
        );
      })}
    </ol>
  );
}

import type { Task } from "@/api/types";
import { Preview } from "@/jobs/preview";
import { JobProgress } from "@/jobs/progress";
import { useIsStale, useTask } from "@/jobs/use-task";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { About, PriorityMark } from "./about";
import { BatchMark } from "./batch";
import { JobActions } from "./job-actions";
import { Parts } from "./parts";

export function RunningCard({ id }: { id: string }) {
  const text = useText();
  const task = useTask(id);
  const isStale = useIsStale();
  if (!task) return <li className="skeleton h-40 rounded-xl" />;
  return (
    <li data-job={id} className="flex gap-3 rounded-xl border bg-surface p-3 sm:gap-4 sm:p-4">
      <Picture task={task} isDimmed={isStale || task.cancel_requested} />
      <div className="flex min-w-0 flex-1 flex-col">
        <div className="flex items-start gap-2">
          <div className="min-w-0 flex-1">
            <p dir="auto" className="line-clamp-2 font-medium text-sm wrap-anywhere">
              {task.prompt}
            </p>
            <About task={task} className="mt-0.5 max-sm:hidden" />
          </div>
          <JobActions task={task} />
        </div>
        <div className="mt-1.5 flex flex-wrap gap-1.5">
          <PriorityMark task={task} />
          <BatchMark id={task.batch_id} />
        </div>
        <div className="mt-auto">
          <Parts task={task} />
          <JobProgress task={task} isStale={isStale} className="mt-2" />
          {task.cancel_requested && task.status === "processing" && (
            <p className="mt-1 text-muted text-xs">{text.queue.cancelHint}</p>
          )}
        </div>
      </div>
    </li>
  );
}

/** The preview in a box that is as large for every shape of video. */
function Picture({ task, isDimmed }: { task: Task; isDimmed: boolean }) {
  return (
    <div
      className={cx(
        "flex h-20 w-24 shrink-0 items-center justify-center overflow-hidden rounded-lg bg-sunken transition-opacity sm:h-32 sm:w-44",
        isDimmed && "opacity-50",
      )}
    >
      <Preview task={task} className={task.width * 32 > task.height * 44 ? "w-full" : "h-full"} />
    </div>
  );
}

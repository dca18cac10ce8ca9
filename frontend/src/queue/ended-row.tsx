import { Link } from "@tanstack/react-router";
import { Ban, CircleAlert } from "lucide-react";
import type { Task } from "@/api/types";
import { thumbnailAddress } from "@/jobs/addresses";
import { Failure } from "@/jobs/failure";
import { useTask } from "@/jobs/use-task";
import { useLanguage, useText } from "@/text";
import { cx } from "@/ui/cx";
import { JobActions } from "./job-actions";

export function EndedRow({ id }: { id: string }) {
  const task = useTask(id);
  if (!task) return <li className="skeleton h-16" />;
  const isFailed = task.status === "failed";
  return (
    <li data-job={id} className="flex gap-3 py-3">
      <Mark task={task} />
      <div className="min-w-0 flex-1">
        <div className="flex items-start gap-2">
          <div className="min-w-0 flex-1">
            <p dir="auto" className="line-clamp-2 text-sm wrap-anywhere">
              {task.prompt}
            </p>
            <Ending task={task} />
          </div>
          <JobActions task={task} />
        </div>
        {isFailed && (
          <div className="mt-2">
            <Failure task={task} />
          </div>
        )}
      </div>
    </li>
  );
}

/** The video of a completed job, which opens it in the gallery; else a sign of how the job ended. */
function Mark({ task }: { task: Task }) {
  const text = useText();
  const box = "flex h-10 w-14 shrink-0 items-center justify-center overflow-hidden rounded-sm";
  if (task.status === "completed") {
    return (
      <Link
        to="/gallery"
        search={{ video: task.id }}
        aria-label={`${text.queue.open}: ${task.prompt}`}
        className={cx(box, "bg-sunken")}
      >
        <img src={thumbnailAddress(task.id)} alt="" loading="lazy" className="size-full object-cover" />
      </Link>
    );
  }
  const isFailed = task.status === "failed";
  const Icon = isFailed ? CircleAlert : Ban;
  return (
    <div className={cx(box, isFailed ? "bg-bad-soft text-bad" : "bg-sunken text-muted")}>
      <Icon aria-hidden className="size-4" />
    </div>
  );
}

/** How and when a job ended, and how long it ran. */
function Ending({ task }: { task: Task }) {
  const text = useText();
  const { language } = useLanguage();
  const parts = [text.stages[task.status] ?? task.status];
  if (task.completed_at !== null) {
    parts.push(formatTime(task.completed_at, language));
    if (task.status === "completed" && task.started_at !== null) {
      const seconds = (Date.parse(task.completed_at) - Date.parse(task.started_at)) / 1000;
      parts.push(text.queue.took(text.common.duration(seconds)));
    }
  }
  return <p className="mt-0.5 text-muted text-xs tabular">{parts.join(" · ")}</p>;
}

/** The time of day; with the date unless it is today's. */
function formatTime(time: string, language: string): string {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(language, {
    hour: "2-digit",
    minute: "2-digit",
    ...(isToday ? {} : { day: "numeric", month: "short" }),
  });
}

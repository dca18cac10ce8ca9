import { Link } from "@tanstack/react-router";
import { Ban, CircleAlert, RotateCcw } from "lucide-react";
import type { Task } from "@/api/types";
import { useTaskActions } from "@/jobs/actions";
import { thumbnailAddress } from "@/jobs/addresses";
import { useTask } from "@/jobs/use-task";
import { useLanguage, useText } from "@/text";
import { Button } from "@/ui/button";
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
        {isFailed && <Failure task={task} />}
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

/** The error of a failed job, what the service suggests, and the retry. */
function Failure({ task }: { task: Task }) {
  const text = useText();
  const { retry } = useTaskActions(task.id);
  const suggestions = Array.isArray(task.error?.suggestions) ? task.error.suggestions.map(String) : [];
  return (
    <div className="mt-2 rounded-md bg-bad-soft p-2.5 text-xs">
      <p className="wrap-anywhere">{task.error_message}</p>
      {suggestions.map((suggestion) => (
        <p key={suggestion} className="mt-1 text-muted wrap-anywhere">
          {suggestion}
        </p>
      ))}
      <Button size="sm" className="mt-2" disabled={retry.isPending} onClick={() => retry.mutate()}>
        <RotateCcw />
        {text.queue.retry}
      </Button>
    </div>
  );
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

import { ChevronDown, X } from "lucide-react";
import { memo, type ReactNode, useState } from "react";
import { JobProgress } from "@/jobs/progress";
import { useIsStale, useTask } from "@/jobs/use-task";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { cx } from "@/ui/cx";
import { About, PriorityMark } from "./about";
import { useQueueActions } from "./actions";
import { BatchMark, useBatchText } from "./batch";
import type { Entry } from "./entries";
import { JobActions } from "./job-actions";

type Props = {
  entry: Entry;
  /** The button that drags the row. */
  handle: ReactNode;
  onMove: (place: "first" | "last") => void;
};

/** A row of the waiting list: a job, or several jobs of a batch that can be shown one by one. */
export const WaitingRow = memo(function WaitingRow(props: Props) {
  return props.entry.ids.length === 1 ? <SingleRow {...props} /> : <BatchRow {...props} />;
});

const ROW = "flex items-center gap-2 rounded-lg border bg-surface py-2 pr-2 pl-1";

function SingleRow({ entry, handle, onMove }: Props) {
  const task = useTask(entry.key);
  const isStale = useIsStale();
  if (!task) return <div className={cx(ROW, "skeleton h-14")} />;
  const isQueued = task.status === "pending" && task.stage === "queued";
  return (
    <div className={ROW} data-job={task.id}>
      {handle}
      <Position value={task.queue_position} />
      <div className="min-w-0 flex-1">
        <div className="flex items-center gap-2">
          <p dir="auto" className="truncate text-sm">
            {task.prompt}
          </p>
          <PriorityMark task={task} />
          <BatchMark id={task.batch_id} />
        </div>
        {isQueued ? <About task={task} /> : <JobProgress task={task} isStale={isStale} />}
      </div>
      <JobActions task={task} onMove={onMove} />
    </div>
  );
}

function BatchRow({ entry, handle }: Props) {
  const text = useText();
  const task = useTask(entry.key);
  const progress = useBatchText(entry.batchId);
  const { cancelBatch } = useQueueActions();
  const [isOpen, setOpen] = useState(false);
  if (!task) return <div className={cx(ROW, "skeleton h-14")} />;
  return (
    <div className="rounded-lg border bg-surface" data-batch={entry.batchId}>
      <div className={cx(ROW, "border-0 bg-transparent")}>
        {handle}
        <Position value={task.queue_position} />
        <div className="min-w-0 flex-1">
          <div className="flex items-center gap-2">
            <p dir="auto" className="truncate text-sm">
              {task.prompt}
            </p>
            <PriorityMark task={task} />
          </div>
          <p className="truncate text-muted text-xs tabular">
            {[text.queue.batchOf(entry.ids.length), progress].filter(Boolean).join(" · ")}
          </p>
        </div>
        <Button
          look="quiet"
          size="sm"
          disabled={cancelBatch.isPending}
          onClick={() => cancelBatch.mutate(entry.batchId ?? "")}
        >
          <X />
          <span className="max-sm:sr-only">{text.queue.cancelBatch}</span>
        </Button>
        <IconButton
          label={text.queue.showBatch}
          size="sm"
          aria-expanded={isOpen}
          onClick={() => setOpen(!isOpen)}
        >
          <ChevronDown className={cx("transition-transform", isOpen && "rotate-180")} />
        </IconButton>
      </div>
      {isOpen && (
        <ul className="mr-2 mb-2 ml-9 divide-y border-t">
          {entry.ids.map((id) => (
            <Variation key={id} id={id} />
          ))}
        </ul>
      )}
    </div>
  );
}

function Variation({ id }: { id: string }) {
  const task = useTask(id);
  if (!task) return null;
  return (
    <li className="flex items-center gap-2 py-1" data-job={id}>
      <Position value={task.queue_position} />
      <About task={task} className="min-w-0 flex-1" />
      <JobActions task={task} />
    </li>
  );
}

function Position({ value }: { value: number | null }) {
  const text = useText();
  return (
    <span className="min-w-6 shrink-0 text-center text-muted text-xs tabular">
      {value !== null && (
        <>
          <span className="sr-only">{text.queue.position(value)}</span>
          <span aria-hidden>{value}</span>
        </>
      )}
    </span>
  );
}

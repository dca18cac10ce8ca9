/** The jobs of the last submission, beside the form: what happens now, and then the videos. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { Clapperboard, Dices, Download, Maximize2, RotateCcw, StepForward, X } from "lucide-react";
import { isEnded, taskQuery } from "@/api/queries";
import type { Task } from "@/api/types";
import { useTaskActions } from "@/jobs/actions";
import { downloadAddress } from "@/jobs/addresses";
import { Failure } from "@/jobs/failure";
import { Player } from "@/jobs/player";
import { Preview } from "@/jobs/preview";
import { JobProgress } from "@/jobs/progress";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { cx } from "@/ui/cx";
import { EmptyState, ErrorNotice } from "@/ui/notices";

export function Results({ ids, onAgain }: { ids: readonly string[]; onAgain: (() => void) | null }) {
  const text = useText();
  if (ids.length === 0) {
    return (
      <div className="flex min-h-72 flex-1 items-center lg:min-h-[70dvh] justify-center rounded-xl border border-dashed">
        <EmptyState
          icon={<Clapperboard />}
          title={text.create.resultEmpty}
          hint={text.create.resultEmptyHint}
        />
      </div>
    );
  }
  return (
    <ul className={cx("grid gap-4", ids.length > 1 && "sm:grid-cols-2")}>
      {ids.map((id) => (
        <Result key={id} id={id} isAlone={ids.length === 1} onAgain={onAgain} />
      ))}
    </ul>
  );
}

function Result({ id, isAlone, onAgain }: { id: string; isAlone: boolean; onAgain: (() => void) | null }) {
  const { data: task, error, refetch } = useQuery(taskQuery(id));
  if (error && !task) {
    return (
      <li>
        <ErrorNotice error={error} onRetry={() => void refetch()} />
      </li>
    );
  }
  if (!task) return <li className="skeleton aspect-video rounded-lg" />;
  return (
    <li className="appear flex min-w-0 flex-col gap-3">
      <Picture task={task} isAlone={isAlone} />
      <Caption task={task} onAgain={onAgain} />
    </li>
  );
}

/** The largest picture that fits the screen without scrolling, in the video's shape. */
function Picture({ task, isAlone }: { task: Task; isAlone: boolean }) {
  const text = useText();
  const width = `min(100%, calc(${isAlone ? "62dvh" : "40dvh"} * ${task.width / task.height}))`;
  return (
    <div className="mx-auto w-full" style={{ maxWidth: width }}>
      {task.status === "completed" ? (
        <Player id={task.id} width={task.width} height={task.height} prompt={task.prompt} autoPlay muted />
      ) : task.status === "failed" || task.status === "cancelled" ? (
        <div
          className="flex items-center justify-center rounded-lg bg-sunken text-muted text-sm"
          style={{ aspectRatio: `${task.width} / ${task.height}` }}
        >
          {task.status === "failed" ? text.create.failedTitle : text.create.cancelledTitle}
        </div>
      ) : (
        <Preview task={task} />
      )}
    </div>
  );
}

function Caption({ task, onAgain }: { task: Task; onAgain: (() => void) | null }) {
  const text = useText();
  const navigate = useNavigate();
  const { cancel, retry } = useTaskActions(task.id);
  if (!isEnded(task.status)) {
    return (
      <div className="flex items-end gap-3">
        <JobProgress task={task} className="flex-1" />
        <Button
          size="sm"
          disabled={task.cancel_requested || cancel.isPending}
          onClick={() => cancel.mutate()}
        >
          <X />
          {task.cancel_requested ? text.stages.cancelling : text.common.cancel}
        </Button>
      </div>
    );
  }
  return (
    <div className="flex flex-col gap-3">
      {task.status === "failed" && <Failure task={task} />}
      <div className="flex flex-wrap items-center gap-1.5">
        {task.status === "completed" ? (
          <>
            {onAgain && (
              <Button size="sm" onClick={onAgain}>
                <Dices />
                {text.create.again}
              </Button>
            )}
            <Button size="sm" onClick={() => void navigate({ to: "/", search: { continue: task.id } })}>
              <StepForward />
              {text.create.extend}
            </Button>
            <Button size="sm" asChild>
              <a href={downloadAddress(task.id)} download>
                <Download />
                {text.create.download}
              </a>
            </Button>
            <IconButton look="plain" size="sm" label={text.create.openViewer} asChild>
              <Link to="/gallery" search={{ video: task.id }} aria-label={text.create.openViewer}>
                <Maximize2 />
              </Link>
            </IconButton>
          </>
        ) : (
          task.status === "cancelled" && (
            <Button size="sm" disabled={retry.isPending} onClick={() => retry.mutate()}>
              <RotateCcw />
              {text.queue.retry}
            </Button>
          )
        )}
        <span className="ml-auto text-xs text-muted tabular">
          {task.width}×{task.height} · {text.task.seed} {task.seed}
        </span>
      </div>
    </div>
  );
}

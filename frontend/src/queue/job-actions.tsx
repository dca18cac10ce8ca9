import { useNavigate } from "@tanstack/react-router";
import {
  ChevronsDown,
  ChevronsUp,
  Ellipsis,
  Layers,
  RotateCcw,
  SlidersHorizontal,
  Trash2,
  X,
} from "lucide-react";
import { isEnded } from "@/api/queries";
import type { Task } from "@/api/types";
import { useTaskActions } from "@/jobs/actions";
import { useText } from "@/text";
import { IconButton } from "@/ui/button";
import { Menu, MenuItem, MenuSeparator } from "@/ui/menu";
import { useQueueActions } from "./actions";
import { useDeletion } from "./deletion";

/** The button that ends or repeats a job, and the menu with everything else. */
export function JobActions({ task, onMove }: { task: Task; onMove?: (place: "first" | "last") => void }) {
  const text = useText();
  const navigate = useNavigate();
  const { cancel, retry } = useTaskActions(task.id);
  const { cancelBatch } = useQueueActions();
  const remove = useDeletion();
  const ended = isEnded(task.status);
  const canRetry = task.status === "failed" || task.status === "cancelled";
  return (
    <div className="flex shrink-0 gap-0.5">
      {!ended && (
        <IconButton
          label={task.cancel_requested ? (text.stages.cancelling ?? "") : text.queue.cancelJob(task.prompt)}
          size="sm"
          disabled={task.cancel_requested || cancel.isPending}
          onClick={() => cancel.mutate()}
        >
          <X />
        </IconButton>
      )}
      <Menu
        trigger={
          <IconButton label={text.queue.jobActions(task.prompt)} size="sm">
            <Ellipsis />
          </IconButton>
        }
      >
        {onMove && (
          <>
            <MenuItem onSelect={() => onMove("first")}>
              <ChevronsUp />
              {text.queue.places.first}
            </MenuItem>
            <MenuItem onSelect={() => onMove("last")}>
              <ChevronsDown />
              {text.queue.places.last}
            </MenuItem>
            <MenuSeparator />
          </>
        )}
        {canRetry && (
          <MenuItem onSelect={() => retry.mutate()}>
            <RotateCcw />
            {text.queue.retry}
          </MenuItem>
        )}
        <MenuItem onSelect={() => void navigate({ to: "/", search: { from: task.id } })}>
          <SlidersHorizontal />
          {text.queue.useSettings}
        </MenuItem>
        {!ended && task.batch_id !== null && (
          <MenuItem danger onSelect={() => cancelBatch.mutate(task.batch_id ?? "")}>
            <Layers />
            {text.queue.cancelBatch}
          </MenuItem>
        )}
        {canRetry && (
          <MenuItem danger onSelect={() => remove(task.id, task.prompt)}>
            <Trash2 />
            {text.queue.deleteJob}
          </MenuItem>
        )}
      </Menu>
    </div>
  );
}

import { useEffect, useRef, useState } from "react";
import type { Task } from "@/api/types";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { previewAddress } from "./addresses";

/** The moving preview of a running job, in the video's shape. It keeps the last picture until the next has arrived. */
export function Preview({ task, className }: { task: Task; className?: string }) {
  const text = useText();
  const [shown, setShown] = useState<string | null>(null);
  const wanted =
    task.stage === "generating" && task.current_step > 0 ? previewAddress(task.id, task.current_step) : null;
  const latest = useRef<string | null>(null);
  useEffect(() => {
    if (!wanted || latest.current === wanted) return;
    latest.current = wanted;
    const image = new Image();
    image.onload = () => {
      if (latest.current === wanted) setShown(wanted);
    };
    image.src = wanted;
  }, [wanted]);
  return (
    <div
      className={cx("overflow-hidden rounded-lg bg-sunken", className)}
      style={{ aspectRatio: `${task.width} / ${task.height}` }}
    >
      {shown ? (
        <img src={shown} alt={text.task.preview} className="size-full object-cover" />
      ) : (
        <div className="skeleton size-full rounded-none" />
      )}
    </div>
  );
}

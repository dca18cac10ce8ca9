import { useQuery } from "@tanstack/react-query";
import { Layers } from "lucide-react";
import { batchQuery } from "@/api/queries";
import { useText } from "@/text";

/** How many jobs of a batch are done, in words; null while it is unknown. */
export function useBatchText(id: string | null): string | null {
  const text = useText();
  const { data } = useQuery({
    ...batchQuery(id ?? ""),
    enabled: id !== null,
    select: ({ completed, failed, total }) => ({ completed, failed, total }),
  });
  if (!data) return null;
  const done = text.queue.batchDone(data.completed, data.total);
  return data.failed > 0 ? `${done} · ${text.queue.batchFailed(data.failed)}` : done;
}

/** The progress of the batch that a job belongs to. */
export function BatchMark({ id }: { id: string | null }) {
  const text = useText();
  const progress = useBatchText(id);
  if (id === null) return null;
  return (
    <span className="inline-flex shrink-0 items-center gap-1 rounded-sm bg-sunken px-1.5 py-px text-muted text-xs tabular">
      <Layers aria-hidden className="size-3" />
      {progress === null ? text.queue.batch : `${text.queue.batch}: ${progress}`}
    </span>
  );
}

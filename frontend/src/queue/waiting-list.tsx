import { DndContext } from "@dnd-kit/core";
import { SortableContext, useSortable, verticalListSortingStrategy } from "@dnd-kit/sortable";
import { useQueryClient } from "@tanstack/react-query";
import { defaultRangeExtractor, useWindowVirtualizer } from "@tanstack/react-virtual";
import { GripVertical } from "lucide-react";
import { memo, useCallback, useLayoutEffect, useMemo, useRef, useState } from "react";
import { taskQuery } from "@/api/queries";
import { useTask } from "@/jobs/use-task";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { type Entry, groupJobs } from "./entries";
import { useReordering } from "./reordering";
import { WaitingRow } from "./waiting-row";

const ROW_HEIGHT = 64;
const OVERSCAN = 8;

/** The pending jobs in their order. Only the rows near the screen exist. */
export function WaitingList({ ids }: { ids: readonly string[] }) {
  const client = useQueryClient();
  const entries = useMemo(
    () => groupJobs(ids, (id) => client.getQueryData(taskQuery(id).queryKey)),
    [ids, client],
  );
  const { dragging, moveTo, context } = useReordering(entries);
  const list = useRef<HTMLUListElement>(null);
  const [margin, setMargin] = useState(0);
  // The jobs that run are above the list. Their number changes together with the list.
  // biome-ignore lint/correctness/useExhaustiveDependencies: see above
  useLayoutEffect(() => {
    setMargin(Math.round((list.current?.getBoundingClientRect().top ?? 0) + scrollY));
  }, [ids]);
  const kept = dragging === null ? -1 : entries.findIndex((entry) => entry.key === dragging);
  const virtualizer = useWindowVirtualizer({
    count: entries.length,
    estimateSize: () => ROW_HEIGHT,
    overscan: OVERSCAN,
    useFlushSync: false,
    scrollMargin: margin,
    getItemKey: (index) => entries[index]?.key ?? index,
    rangeExtractor: (range) => {
      const near = defaultRangeExtractor(range);
      return kept < 0 || near.includes(kept) ? near : [...near, kept].sort((one, other) => one - other);
    },
  });
  const keys = useMemo(() => entries.map((entry) => entry.key), [entries]);
  return (
    <DndContext {...context}>
      <SortableContext items={keys} strategy={verticalListSortingStrategy}>
        <ul ref={list} className="relative" style={{ height: virtualizer.getTotalSize() }}>
          {virtualizer.getVirtualItems().map(({ index, key, start }) => {
            const entry = entries[index];
            return (
              entry && (
                <SortableRow
                  key={key}
                  entry={entry}
                  index={index}
                  count={entries.length}
                  top={start - margin}
                  measure={virtualizer.measureElement}
                  moveTo={moveTo}
                />
              )
            );
          })}
        </ul>
      </SortableContext>
    </DndContext>
  );
}

const SortableRow = memo(function SortableRow({
  entry,
  index,
  count,
  top,
  measure,
  moveTo,
}: {
  entry: Entry;
  index: number;
  count: number;
  top: number;
  measure: (element: HTMLElement | null) => void;
  moveTo: (key: string, index: number) => void;
}) {
  const { setNodeRef, setActivatorNodeRef, attributes, listeners, transform, transition, isDragging } =
    useSortable({ id: entry.key });
  const text = useText();
  const prompt = useTask(entry.key)?.prompt ?? "";
  const ref = useCallback(
    (element: HTMLElement | null) => {
      setNodeRef(element);
      measure(element);
    },
    [setNodeRef, measure],
  );
  // A drag renders all rows for each movement of the pointer; what is in them stays.
  const handle = useMemo(
    () => (
      <button
        type="button"
        ref={setActivatorNodeRef}
        {...attributes}
        {...listeners}
        aria-label={text.queue.drag(prompt)}
        className="flex h-9 w-6 shrink-0 cursor-grab touch-none items-center justify-center rounded-sm text-muted hover:text-text"
      >
        <GripVertical aria-hidden className="size-4" />
      </button>
    ),
    [setActivatorNodeRef, attributes, listeners, text, prompt],
  );
  const { key } = entry;
  const onMove = useCallback(
    (place: "first" | "last") => moveTo(key, place === "first" ? 0 : count - 1),
    [moveTo, key, count],
  );
  return (
    <li
      ref={ref}
      data-index={index}
      aria-posinset={index + 1}
      aria-setsize={count}
      className={cx("absolute inset-x-0 pb-2", isDragging && "z-10 drop-shadow-lg")}
      style={{ top, transform: transform ? `translateY(${transform.y}px)` : undefined, transition }}
    >
      <WaitingRow entry={entry} handle={handle} onMove={onMove} />
    </li>
  );
});

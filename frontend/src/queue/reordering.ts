/** Reordering of the waiting jobs. */
import type { DndContextProps } from "@dnd-kit/core";
import { useCallback, useState } from "react";
import { useText } from "@/text";
import { useSorting } from "@/ui/sorting";
import { useToast } from "@/ui/toaster";
import { useQueueActions } from "./actions";
import { type Entry, moveEntry } from "./entries";

export function useReordering(entries: readonly Entry[]) {
  const text = useText();
  const toast = useToast();
  const { mutate: reorder } = useQueueActions().reorder;
  const [dragging, setDragging] = useState<string | null>(null);
  const moveTo = useCallback(
    (key: string, wanted: number) => {
      const from = entries.findIndex((entry) => entry.key === key);
      const move = moveEntry(entries, from, wanted);
      if (move?.isLimited) toast({ title: text.queue.priorityFirst });
      if (move && move.ids.length > 0) reorder(move.ids);
    },
    [entries, reorder, toast, text],
  );
  const placeOf = (key: unknown) => entries.findIndex((entry) => entry.key === key) + 1;
  const context: DndContextProps = {
    ...useSorting(entries.map((entry) => entry.key)),
    onDragStart: ({ active }) => setDragging(String(active.id)),
    onDragCancel: () => setDragging(null),
    onDragEnd: ({ active, over }) => {
      setDragging(null);
      if (over) moveTo(String(active.id), placeOf(over.id) - 1);
    },
  };
  return { dragging, moveTo, context };
}

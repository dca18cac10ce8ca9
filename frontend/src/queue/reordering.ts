/** Reordering of the waiting jobs by mouse, by touch, and by keyboard, which is announced to screen readers. */
import {
  type Announcements,
  closestCenter,
  type DndContextProps,
  KeyboardSensor,
  PointerSensor,
  useSensor,
  useSensors,
} from "@dnd-kit/core";
import { sortableKeyboardCoordinates } from "@dnd-kit/sortable";
import { useCallback, useRef, useState } from "react";
import { useText } from "@/text";
import { useToast } from "@/ui/toaster";
import { useQueueActions } from "./actions";
import { type Entry, moveEntry } from "./entries";

export function useReordering(entries: readonly Entry[]) {
  const text = useText();
  const toast = useToast();
  const { mutate: reorder } = useQueueActions().reorder;
  const [dragging, setDragging] = useState<string | null>(null);
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 4 } }),
    useSensor(KeyboardSensor, { coordinateGetter: sortableKeyboardCoordinates }),
  );
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
  const announced = useRef(0);
  const announcements: Announcements = {
    onDragStart: ({ active }) => {
      announced.current = placeOf(active.id);
      return text.queue.lifted(announced.current, entries.length);
    },
    onDragOver: ({ over }) => {
      const place = placeOf(over?.id);
      if (place === 0 || place === announced.current) return undefined; // the first place is that of the lift
      announced.current = place;
      return text.queue.moved(place, entries.length);
    },
    onDragEnd: ({ over }) =>
      over ? text.queue.dropped(placeOf(over.id), entries.length) : text.queue.notMoved,
    onDragCancel: () => text.queue.notMoved,
  };
  const context: DndContextProps = {
    sensors,
    collisionDetection: closestCenter,
    modifiers: [({ transform }) => ({ ...transform, x: 0 })],
    accessibility: { announcements, screenReaderInstructions: { draggable: text.queue.dragHint } },
    onDragStart: ({ active }) => setDragging(String(active.id)),
    onDragCancel: () => setDragging(null),
    onDragEnd: ({ active, over }) => {
      setDragging(null);
      if (over) moveTo(String(active.id), placeOf(over.id) - 1);
    },
  };
  return { dragging, moveTo, context };
}

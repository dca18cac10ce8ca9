/** Sorting of a list by mouse, by touch, and by keyboard, which is announced to screen readers. */
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
import { useRef } from "react";
import { useText } from "@/text";

type Sorting = Required<
  Pick<DndContextProps, "sensors" | "collisionDetection" | "modifiers" | "accessibility">
>;

/** Returns the properties of a DndContext around a vertical list, whose items have these keys in their order. */
export function useSorting(keys: readonly string[]): Sorting {
  const text = useText();
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 4 } }),
    useSensor(KeyboardSensor, { coordinateGetter: sortableKeyboardCoordinates }),
  );
  const placeOf = (key: unknown) => keys.indexOf(String(key)) + 1;
  const announced = useRef(0);
  const announcements: Announcements = {
    onDragStart: ({ active }) => {
      announced.current = placeOf(active.id);
      return text.sorting.lifted(announced.current, keys.length);
    },
    onDragOver: ({ over }) => {
      const place = placeOf(over?.id);
      if (place === 0 || place === announced.current) return undefined; // the first place is that of the lift
      announced.current = place;
      return text.sorting.moved(place, keys.length);
    },
    onDragEnd: ({ over }) =>
      over ? text.sorting.dropped(placeOf(over.id), keys.length) : text.sorting.notMoved,
    onDragCancel: () => text.sorting.notMoved,
  };
  return {
    sensors,
    collisionDetection: closestCenter,
    modifiers: [({ transform }) => ({ ...transform, x: 0 })],
    accessibility: { announcements, screenReaderInstructions: { draggable: text.sorting.hint } },
  };
}

/** The selected videos. */
import { useCallback, useMemo, useRef, useState } from "react";

export type Selection = {
  ids: ReadonlySet<string>;
  toggle: (id: string, isRange: boolean) => void;
  replace: (ids: readonly string[]) => void;
  clear: () => void;
};

/** Returns the ids between two, in the order of a list, with both; only the second if the first is not in the list. */
export function rangeOf(list: readonly string[], from: string, to: string): string[] {
  const [start, end] = [list.indexOf(from), list.indexOf(to)];
  if (start < 0 || end < 0) return [to];
  return list.slice(Math.min(start, end), Math.max(start, end) + 1);
}

/** Keeps a selection among videos. A range begins with the video that was last selected alone. */
export function useSelection(list: readonly string[]): Selection {
  const [ids, setIds] = useState<ReadonlySet<string>>(new Set());
  const anchor = useRef<string | null>(null);
  const current = useRef(list);
  current.current = list;
  const toggle = useCallback((id: string, isRange: boolean) => {
    const from = anchor.current;
    setIds((selected) => {
      const next = new Set(selected);
      if (isRange && from) for (const each of rangeOf(current.current, from, id)) next.add(each);
      else if (!next.delete(id)) next.add(id);
      return next;
    });
    if (!isRange || !from) anchor.current = id;
  }, []);
  const replace = useCallback((next: readonly string[]) => setIds(new Set(next)), []);
  const clear = useCallback(() => {
    anchor.current = null;
    setIds((selected) => (selected.size ? new Set() : selected));
  }, []);
  return useMemo(() => ({ ids, toggle, replace, clear }), [ids, toggle, replace, clear]);
}

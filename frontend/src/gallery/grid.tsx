/** The grid of thumbnails. Only rows near the view exist; further pages load while the user scrolls. */
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  type RefObject,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { Video } from "@/api/types";
import { useText } from "@/text";
import { Card } from "./card";
import { makeRows, type Row, stepRow } from "./layout";
import type { Selection } from "./selection";

const GAP = 8;
const NARROW = 640;

type Props = {
  videos: readonly Video[];
  total: number;
  hasMore: boolean;
  onMore: () => void;
  selection: Selection;
  /** The video that gets the focus, until `onFocused` is called. */
  focusId: string | null;
  onFocused: () => void;
  onFavorite: (video: Video) => void;
  onSelectAll: () => void;
  onDelete: (ids: readonly string[]) => void;
};

export function Grid({ videos, total, hasMore, onMore, selection, focusId, onFocused, ...props }: Props) {
  const text = useText();
  const box = useRef<HTMLDivElement>(null);
  const { width, top } = useBox(box);
  const rows = useMemo(
    () =>
      makeRows(
        videos.map((video) => video.width / video.height),
        width,
        width < NARROW ? 140 : 200,
        GAP,
        !hasMore,
      ),
    [videos, width, hasMore],
  );
  const virtualizer = useWindowVirtualizer({
    count: rows.length + (hasMore ? 1 : 0),
    estimateSize: (index) => (rows[index]?.height ?? 200) + GAP,
    scrollMargin: top,
    scrollPaddingStart: 72,
    scrollPaddingEnd: 96,
    overscan: 2,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: the sizes of the rows come from the rows
  useLayoutEffect(() => virtualizer.measure(), [virtualizer, rows]);
  const shown = virtualizer.getVirtualItems();
  const last = shown.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && width > 0 && last >= rows.length - 4) onMore();
  }, [hasMore, width, last, rows.length, onMore]);

  const [current, setCurrent] = useState<string | null>(null);
  const index = Math.max(
    0,
    videos.findIndex((video) => video.id === current),
  );
  const wanted = useRef<string | null>(null);
  const moveTo = (next: number) => {
    const video = videos[next];
    if (!video) return;
    wanted.current = video.id;
    setCurrent(video.id);
    virtualizer.scrollToIndex(Math.max(0, rowOf(rows, next)), { align: "auto" });
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: only another wanted video moves the focus
  useEffect(() => {
    if (focusId === null || width === 0) return;
    moveTo(videos.findIndex((video) => video.id === focusId));
    onFocused();
  }, [focusId, width]);
  useEffect(() => {
    const link =
      wanted.current && box.current?.querySelector<HTMLElement>(`[data-video="${wanted.current}"]`);
    if (!link) return;
    wanted.current = null;
    link.focus({ preventScroll: true });
  });

  const onKeyDown = (event: KeyboardEvent) => {
    const video = videos[index];
    if (!video) return;
    const isCommand = event.ctrlKey || event.metaKey;
    const targets: Record<string, number> = {
      ArrowRight: index + 1,
      ArrowLeft: index - 1,
      ArrowDown: stepRow(rows, index, 1, GAP),
      ArrowUp: stepRow(rows, index, -1, GAP),
      Home: 0,
      End: videos.length - 1,
    };
    const target = targets[event.key];
    if (target !== undefined && !isCommand && !event.altKey) {
      const next = videos[target];
      if (next && event.shiftKey) {
        if (selection.ids.size === 0) selection.toggle(video.id, false);
        selection.toggle(next.id, true);
      }
      moveTo(target);
    } else if (isCommand && event.key === "a") props.onSelectAll();
    else if (isCommand || event.altKey) return;
    else if (event.key === " ") selection.toggle(video.id, event.shiftKey);
    else if (event.key === "Escape" && selection.ids.size) selection.clear();
    else if (event.key === "f") props.onFavorite(video);
    else if (event.key === "Delete") {
      props.onDelete(selection.ids.size ? [...selection.ids] : [video.id]);
      if (!selection.ids.size) moveTo(index + 1 < videos.length ? index + 1 : index - 1);
    } else return;
    event.preventDefault();
  };

  return (
    // biome-ignore lint/a11y/useSemanticElements: rows of a table can't be placed freely
    <div
      ref={box}
      role="grid"
      aria-label={text.gallery.list}
      aria-multiselectable
      aria-rowcount={hasMore ? -1 : rows.length}
      aria-busy={hasMore && total > 0 && rows.length === 0}
      onKeyDown={onKeyDown}
      className="relative"
      style={{ height: virtualizer.getTotalSize() }}
    >
      {shown.map(({ index: at, start }) => {
        const row = rows[at];
        const place = { transform: `translateY(${start - top}px)`, height: row?.height ?? 200 };
        if (!row) return <SkeletonRow key="more" style={place} />;
        return (
          // biome-ignore lint/a11y/useSemanticElements lint/a11y/useFocusableInteractive: as for the grid
          <div
            key={videos[row.from]?.id}
            role="row"
            aria-rowindex={at + 1}
            className="absolute inset-x-0 top-0 flex"
            style={{ ...place, gap: GAP }}
          >
            {videos.slice(row.from, row.to).map((video, position) => (
              <Card
                key={video.id}
                video={video}
                width={row.widths[position] ?? 0}
                height={row.height}
                isSelected={selection.ids.has(video.id)}
                isSelecting={selection.ids.size > 0}
                tabIndex={row.from + position === index ? 0 : -1}
                onFocus={setCurrent}
                onToggle={selection.toggle}
                onFavorite={props.onFavorite}
              />
            ))}
          </div>
        );
      })}
    </div>
  );
}

function rowOf(rows: readonly Row[], index: number): number {
  return rows.findIndex((row) => index < row.to);
}

/** The shape of rows that are not loaded yet. */
export function SkeletonRow({ style }: { style?: React.CSSProperties }) {
  return (
    <div aria-hidden className="absolute inset-x-0 top-0 flex gap-2 overflow-hidden" style={style}>
      {[1.7, 1.7, 0.6, 1, 1.7].map((ratio, index) => (
        <div
          key={index}
          className="skeleton h-full shrink-0"
          style={{ flexGrow: ratio, flexBasis: 80 * ratio }}
        />
      ))}
    </div>
  );
}

/** Returns the width of an element, and its distance from the top of the page. */
function useBox(ref: RefObject<HTMLElement | null>) {
  const [box, setBox] = useState({ width: 0, top: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const measure = () => {
      const { width, top } = element.getBoundingClientRect();
      const found = { width: Math.floor(width), top: Math.round(top + scrollY) };
      setBox((known) => (known.width === found.width && known.top === found.top ? known : found));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    observer.observe(document.body);
    return () => observer.disconnect();
  }, [ref]);
  return box;
}

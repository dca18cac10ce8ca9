import { Link } from "@tanstack/react-router";
import { Check, Star } from "lucide-react";
import { type MouseEvent, memo, useEffect, useState } from "react";
import type { Video } from "@/api/types";
import { thumbnailAddress, videoAddress } from "@/jobs/addresses";
import { useText } from "@/text";
import { cx } from "@/ui/cx";

const HOVER_MS = 120;

type Props = {
  video: Video;
  width: number;
  height: number;
  isSelected: boolean;
  /** Whether a click selects, because other videos are selected already. */
  isSelecting: boolean;
  tabIndex: 0 | -1;
  onFocus: (id: string) => void;
  onToggle: (id: string, isRange: boolean) => void;
  onFavorite: (video: Video) => void;
};

/** A video in the grid. It plays while the pointer or the focus is on it. */
export const Card = memo(function Card({ video, width, height, isSelected, isSelecting, ...props }: Props) {
  const text = useText();
  const [isActive, setActive] = useState(false);
  const { id, prompt } = video;
  const onClick = (event: MouseEvent) => {
    if (!isSelecting && !event.shiftKey) return;
    event.preventDefault();
    props.onToggle(id, event.shiftKey);
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements lint/a11y/useFocusableInteractive: the link in it takes the focus
    <div
      role="gridcell"
      aria-selected={isSelected}
      className="group/card relative shrink-0 overflow-hidden rounded-md bg-sunken"
      style={{ width, height }}
      onPointerEnter={(event) => event.pointerType === "mouse" && setActive(true)}
      onPointerLeave={() => setActive(false)}
    >
      <Link
        to="/gallery"
        search={(search) => ({ ...search, video: id })}
        resetScroll={false}
        preload={false}
        data-video={id}
        tabIndex={props.tabIndex}
        aria-label={prompt}
        onClick={onClick}
        onFocus={(event) => {
          props.onFocus(id);
          if (event.currentTarget.matches(":focus-visible")) setActive(true);
        }}
        onBlur={() => setActive(false)}
        className="block size-full rounded-md outline-offset-[-2px]"
      >
        <img
          src={thumbnailAddress(id)}
          alt=""
          decoding="async"
          draggable={false}
          className="size-full object-cover"
        />
        {isActive && <Moving id={id} />}
        <span
          aria-hidden
          className="pointer-events-none absolute inset-x-0 bottom-0 bg-linear-to-t from-black/75 to-transparent px-2.5 pt-8 pb-2 text-white text-xs opacity-0 transition-opacity group-focus-within/card:opacity-100 group-hover/card:opacity-100"
        >
          <span className="line-clamp-2">{prompt}</span>
        </span>
      </Link>
      <label
        className={cx(
          "absolute top-0 left-0 cursor-pointer p-2 transition-opacity group-focus-within/card:opacity-100 group-hover/card:opacity-100 pointer-coarse:opacity-100",
          isSelected || isSelecting ? "opacity-100" : "opacity-0",
        )}
      >
        <input
          type="checkbox"
          tabIndex={-1}
          checked={isSelected}
          aria-label={text.gallery.select(prompt.slice(0, 80))}
          onChange={(event) => props.onToggle(id, (event.nativeEvent as unknown as MouseEvent).shiftKey)}
          className="peer sr-only"
        />
        <span className="flex size-5 items-center justify-center rounded-sm border border-white/80 bg-black/35 text-transparent peer-checked:border-accent peer-checked:bg-accent peer-checked:text-on-accent">
          <Check aria-hidden className="size-3.5" strokeWidth={3} />
        </span>
      </label>
      <button
        type="button"
        tabIndex={-1}
        aria-label={video.favorite ? text.gallery.removeFavorite : text.gallery.addFavorite}
        aria-pressed={video.favorite}
        onClick={() => props.onFavorite(video)}
        className={cx(
          "absolute top-0 right-0 p-2 text-white drop-shadow-[0_1px_2px_rgb(0_0_0/0.6)] transition-opacity group-focus-within/card:opacity-100 group-hover/card:opacity-100",
          video.favorite ? "opacity-100" : "opacity-0",
        )}
      >
        <Star aria-hidden className={cx("size-5", video.favorite && "fill-current")} />
      </button>
      {video.is_mock && (
        <span className="pointer-events-none absolute top-2 left-9 rounded-sm bg-black/55 px-1.5 text-white text-xs">
          {text.task.mock}
        </span>
      )}
      {isSelected && (
        <span
          aria-hidden
          className="pointer-events-none absolute inset-0 rounded-md border-3 border-accent"
        />
      )}
    </div>
  );
});

/** The playing video over its thumbnail. A pointer that only passes loads nothing. */
function Moving({ id }: { id: string }) {
  const [isWanted, setWanted] = useState(false);
  const [isPlaying, setPlaying] = useState(false);
  useEffect(() => {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const timer = setTimeout(() => setWanted(true), HOVER_MS);
    return () => clearTimeout(timer);
  }, []);
  if (!isWanted) return null;
  return (
    <video
      src={videoAddress(id)}
      muted
      loop
      autoPlay
      playsInline
      aria-hidden
      tabIndex={-1}
      onPlaying={() => setPlaying(true)}
      className={cx("absolute inset-0 size-full object-cover", isPlaying ? "opacity-100" : "opacity-0")}
    />
  );
}

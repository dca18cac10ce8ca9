/** The open video: a large player, everything about it, and what can be done with it. */
import { useQuery } from "@tanstack/react-query";
import { ChevronLeft, ChevronRight, X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import { type KeyboardEvent, useRef } from "react";
import { ApiError } from "@/api/errors";
import type { Video } from "@/api/types";
import { Player } from "@/jobs/player";
import { useText } from "@/text";
import { IconButton } from "@/ui/button";
import { FullScreen } from "@/ui/dialog";
import { ErrorNotice } from "@/ui/notices";
import { Details } from "./details";
import { videoQuery } from "./queries";

export type ViewerProps = {
  id: string;
  /** The video as the list has it, so that it is shown at once. */
  listed: Video | undefined;
  previous: string | undefined;
  next: string | undefined;
  onShow: (id: string) => void;
  onClose: () => void;
  onDelete: (id: string) => void;
  onFavorite: (video: Video) => void;
};

export function Viewer({ id, listed, previous, next, onShow, onClose, onDelete, onFavorite }: ViewerProps) {
  const text = useText();
  const content = useRef<HTMLDivElement>(null);
  const player = useRef<HTMLVideoElement>(null);
  const query = useQuery({ ...videoQuery(id), ...(listed ? { placeholderData: listed } : {}) });
  const video = query.data;
  const isGone = query.error instanceof ApiError && query.error.status === 404;

  const onKeyDown = (event: KeyboardEvent): boolean => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|VIDEO)$/.test(target.tagName))
      return false;
    if (event.key === "ArrowLeft" && previous) onShow(previous);
    else if (event.key === "ArrowRight" && next) onShow(next);
    else if (event.key === "f" && video) onFavorite(video);
    else if (event.key === "Delete" && video) onDelete(id);
    else if (event.key === " " && target === content.current && player.current) {
      if (player.current.paused) void player.current.play();
      else player.current.pause();
    } else return false;
    return true;
  };

  return (
    <FullScreen
      content={content}
      onClose={onClose}
      onKeyDown={onKeyDown}
      onCloseAutoFocus={(event) => event.preventDefault()}
      className="flex flex-col md:grid md:grid-cols-[minmax(0,1fr)_22rem] md:overflow-hidden xl:grid-cols-[minmax(0,1fr)_26rem]"
    >
      <Radix.Title className="sr-only">{text.gallery.viewer}</Radix.Title>
      <div className="relative flex min-h-0 shrink-0 items-center justify-center bg-sunken p-3 pt-14 md:p-6 md:pt-14">
        <div className="absolute inset-x-3 top-2.5 z-10 flex items-center gap-1">
          <Radix.Close asChild>
            <IconButton label={text.common.close}>
              <X />
            </IconButton>
          </Radix.Close>
          <span className="flex-1" />
          <IconButton
            label={text.gallery.previous}
            disabled={!previous}
            onClick={() => previous && onShow(previous)}
          >
            <ChevronLeft />
          </IconButton>
          <IconButton label={text.gallery.next} disabled={!next} onClick={() => next && onShow(next)}>
            <ChevronRight />
          </IconButton>
        </div>
        {video ? (
          <Stage video={video} player={player} />
        ) : query.isPending ? (
          <div className="skeleton aspect-video w-full" />
        ) : (
          <ErrorNotice
            error={isGone ? new Error(`${text.gallery.gone}. ${text.gallery.goneHint}`) : query.error}
            {...(isGone ? {} : { onRetry: () => void query.refetch() })}
          />
        )}
      </div>
      <div className="min-h-0 border-line p-4 md:overflow-y-auto md:border-l md:p-5">
        {video && (
          <Details
            key={video.id}
            video={video}
            onDelete={() => onDelete(id)}
            onFavorite={() => onFavorite(video)}
          />
        )}
      </div>
    </FullScreen>
  );
}

/** The player, as large as its side of the dialog allows. */
function Stage({ video, player }: { video: Video; player: React.RefObject<HTMLVideoElement | null> }) {
  return (
    <div className="@container-[size] flex size-full min-h-0 items-center justify-center max-md:h-[55dvh]">
      <div
        className="max-h-full max-w-full"
        style={{ width: `min(100cqw, 100cqh * ${video.width / video.height})` }}
      >
        <Player
          key={video.id}
          ref={player}
          id={video.id}
          width={video.width}
          height={video.height}
          prompt={video.prompt}
          autoPlay={!matchMedia("(prefers-reduced-motion: reduce)").matches}
          muted
        />
      </div>
    </div>
  );
}

/** Several videos that play by one clock. */
import { type RefObject, useCallback, useEffect, useState } from "react";

/** Distance from the clock in seconds beyond which a video is moved. */
const DRIFT_SECONDS = 0.06;

export type Clock = {
  time: number;
  duration: number;
  isPlaying: boolean;
  toggle: () => void;
  seek: (time: number) => void;
};

/**
 * Plays, pauses and moves videos together. The longest one is the clock; shorter ones wait at their ends.
 *
 * @param videos The elements, of which some may be missing.
 * @param key Changes when the videos are others.
 */
export function useSync(videos: RefObject<readonly (HTMLVideoElement | null)[]>, key: string): Clock {
  const [time, setTime] = useState(0);
  const [duration, setDuration] = useState(0);
  const [isPlaying, setPlaying] = useState(false);

  // biome-ignore lint/correctness/useExhaustiveDependencies: other videos have other lengths
  useEffect(() => {
    const elements = present(videos.current);
    const measure = () => setDuration(lengthOf(longest(elements)));
    measure();
    setTime(0);
    for (const video of elements) video.addEventListener("loadedmetadata", measure);
    return () => {
      for (const video of elements) video.removeEventListener("loadedmetadata", measure);
    };
  }, [videos, key]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: other videos need a start of their own
  useEffect(() => {
    if (!isPlaying) {
      for (const video of present(videos.current)) video.pause();
      return;
    }
    let frame = 0;
    const follow = () => {
      const elements = present(videos.current);
      const clock = longest(elements);
      if (clock) {
        if (clock.ended) for (const video of elements) video.currentTime = 0;
        const isReady = elements.every(
          (video) => video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA || video.ended,
        );
        for (const video of elements) keepInStep(video, clock, isReady);
        setTime(clock.currentTime);
      }
      frame = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(frame);
  }, [videos, key, isPlaying]);

  const seek = useCallback(
    (to: number) => {
      for (const video of present(videos.current)) video.currentTime = Math.min(to, lengthOf(video));
      setTime(to);
    },
    [videos],
  );
  const toggle = useCallback(() => setPlaying((playing) => !playing), []);
  return { time, duration, isPlaying, toggle, seek };
}

/** Plays a video in step with the clock. While any video loads, or the clock is past its end, it stands still. */
function keepInStep(video: HTMLVideoElement, clock: HTMLVideoElement, isReady: boolean): void {
  const target = Math.min(clock.currentTime, lengthOf(video));
  const isOver = video !== clock && clock.currentTime >= lengthOf(video);
  if (video !== clock && Math.abs(video.currentTime - target) > DRIFT_SECONDS) video.currentTime = target;
  if (isOver || !isReady) {
    if (!video.paused && isOver) video.pause();
  } else if (video.paused) void video.play().catch(() => undefined);
}

function present(videos: readonly (HTMLVideoElement | null)[]): HTMLVideoElement[] {
  return videos.filter((video) => video !== null);
}

function longest(videos: readonly HTMLVideoElement[]): HTMLVideoElement | undefined {
  return videos.reduce<HTMLVideoElement | undefined>(
    (best, video) => (best && lengthOf(best) >= lengthOf(video) ? best : video),
    undefined,
  );
}

function lengthOf(video: HTMLVideoElement | undefined): number {
  return video && Number.isFinite(video.duration) ? video.duration : 0;
}

import type { ComponentProps } from "react";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { thumbnailAddress, videoAddress } from "./addresses";

/** A finished video, in its own shape from the start, so that nothing moves when it loads. Small videos are enlarged. */
export function Player({
  id,
  width,
  height,
  prompt,
  className,
  ...props
}: { id: string; width: number; height: number; prompt: string } & ComponentProps<"video">) {
  const text = useText();
  const isTiny = Math.max(width, height) < 320;
  return (
    <video
      src={videoAddress(id)}
      poster={thumbnailAddress(id)}
      aria-label={`${text.create.video}: ${prompt}`}
      loop
      playsInline
      controls
      className={cx(
        "w-full rounded-lg bg-sunken object-contain",
        isTiny && "[image-rendering:pixelated]",
        className,
      )}
      style={{ aspectRatio: `${width} / ${height}` }}
      {...props}
    />
  );
}

import { Film, ImagePlus, LoaderCircle, X } from "lucide-react";
import { useId, useState } from "react";
import { useText } from "@/text";
import { IconButton } from "@/ui/button";
import { cx } from "@/ui/cx";
import { ErrorNotice } from "@/ui/notices";
import type { Input } from "./form";
import { useUpload, VIDEOS } from "./upload";

/** A place for one image or video: drop it, choose it, or paste it. A chosen image is shown as the video will cut it. */
export function DropZone({
  label,
  value,
  onChange,
  accept,
  frame,
  disabled,
}: {
  label: string;
  value: Input | null;
  onChange: (input: Input | null) => void;
  accept: string;
  /** Size of the video, to which the input is cut; null for the input's own shape. */
  frame: { width: number; height: number } | null;
  disabled: boolean;
}) {
  const text = useText();
  const id = useId();
  const [isOver, setIsOver] = useState(false);
  const upload = useUpload(onChange);
  const shape = frame ?? value;
  const take = (file: File | undefined) => {
    if (file) upload.mutate(file);
  };
  return (
    <div className={cx("flex min-w-0 flex-col gap-1", disabled && "opacity-40")}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the file input inside does the same by keyboard */}
      <div
        className={cx(
          "group relative flex aspect-4/3 items-center justify-center overflow-hidden rounded-lg border border-dashed bg-surface transition-colors",
          isOver ? "border-accent bg-accent-soft" : "hover:border-line-strong",
          value && "border-solid bg-sunken",
        )}
        onDragOver={(event) => {
          event.preventDefault();
          setIsOver(true);
        }}
        onDragLeave={() => setIsOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          event.stopPropagation();
          setIsOver(false);
          if (!disabled) take(event.dataTransfer.files[0]);
        }}
      >
        {value && shape ? (
          <Picture input={value} shape={shape} label={label} />
        ) : upload.isPending ? (
          <LoaderCircle aria-label={text.create.uploading} className="size-5 animate-spin text-muted" />
        ) : accept === VIDEOS ? (
          <Film aria-hidden className="size-5 text-muted" strokeWidth={1.5} />
        ) : (
          <ImagePlus aria-hidden className="size-5 text-muted" strokeWidth={1.5} />
        )}
        <input
          id={id}
          type="file"
          accept={accept}
          disabled={disabled}
          aria-label={value ? `${label}: ${text.create.replace}` : `${label}: ${text.create.drop}`}
          title={value ? text.create.replace : text.create.drop}
          className="absolute inset-0 cursor-pointer opacity-0"
          onChange={(event) => {
            take(event.target.files?.[0]);
            event.target.value = "";
          }}
        />
        {value && (
          <IconButton
            label={`${label}: ${text.common.remove}`}
            look="plain"
            size="sm"
            className="absolute top-1 right-1 rounded-full"
            onClick={() => onChange(null)}
          >
            <X />
          </IconButton>
        )}
      </div>
      <span className="truncate text-center text-xs text-muted">
        {value && frame && isCut(value, frame) ? text.create.crop(`${frame.width}×${frame.height}`) : label}
      </span>
      {upload.error && <ErrorNotice error={upload.error} className="col-span-full" />}
    </div>
  );
}

/** The part of an input that the video shows: scaled to cover the frame, and cut around its center. */
function Picture({
  input,
  shape,
  label,
}: {
  input: Input;
  shape: { width: number; height: number };
  label: string;
}) {
  const isWide = shape.width >= shape.height;
  const fit = cx("max-h-full max-w-full rounded-sm object-cover", isWide ? "w-full" : "h-full");
  const style = { aspectRatio: `${shape.width} / ${shape.height}` };
  return input.kind === "video" && !input.picture.includes("/last_frame") ? (
    <video
      src={input.picture}
      muted
      playsInline
      preload="metadata"
      aria-label={label}
      className={fit}
      style={style}
    />
  ) : (
    <img src={input.picture} alt={label} className={fit} style={style} />
  );
}

function isCut(input: Input, frame: { width: number; height: number }): boolean {
  return Math.abs(input.width / input.height - frame.width / frame.height) > 0.01;
}

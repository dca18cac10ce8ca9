import { CircleCheck, Upload } from "lucide-react";
import { type DragEvent, useId, useState } from "react";
import { ApiError } from "@/api/errors";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { cx } from "@/ui/cx";
import { ErrorNotice, ProgressBar } from "@/ui/notices";
import { LoraFit } from "./lora-fit";
import { useLoraUpload } from "./upload";

/** A place for the file of a LoRA, and what the service says about it. */
export function LoraUploadBox() {
  const text = useText();
  const id = useId();
  const [isOver, setOver] = useState(false);
  const { upload, percent } = useLoraUpload();
  const file = upload.variables?.file;
  const start = (chosen: File | undefined, replace = false) => {
    if (chosen && !upload.isPending) upload.mutate({ file: chosen, replace });
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    start(event.dataTransfer.files[0]);
  };
  const exists = upload.error instanceof ApiError && upload.error.code === "lora_exists";
  return (
    <div className="flex flex-col gap-3">
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the input inside takes the same files by keyboard */}
      <div
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
        className={cx(
          "relative flex min-h-24 flex-col items-center justify-center gap-1 rounded-lg border border-dashed px-4 py-5 text-center transition-colors",
          "hover:border-line-strong has-focus-visible:outline-2 has-focus-visible:outline-accent",
          isOver ? "border-accent bg-accent-soft" : "bg-surface",
        )}
      >
        {upload.isPending && file ? (
          <div className="flex w-full max-w-sm flex-col gap-2">
            <p className="truncate text-sm">{file.name}</p>
            <ProgressBar value={percent < 100 ? percent : null} label={text.models.uploadOf(file.name)} />
            <p className="text-xs text-muted tabular">
              {percent < 100
                ? `${percent.toFixed(0)} % · ${text.common.size(file.size / 1e6)}`
                : text.models.checking}
            </p>
          </div>
        ) : (
          <>
            <label htmlFor={id} className="flex items-center gap-2 text-sm font-medium">
              <Upload aria-hidden className="size-4" />
              {text.models.addLora}
            </label>
            <p className="text-xs text-muted">{text.models.addLoraHint}</p>
            <input
              id={id}
              type="file"
              accept=".safetensors"
              className="absolute inset-0 cursor-pointer opacity-0"
              onChange={(event) => {
                start(event.target.files?.[0]);
                event.target.value = "";
              }}
            />
          </>
        )}
      </div>
      {upload.error && (
        <ErrorNotice
          error={upload.error}
          action={
            exists && (
              <Button size="sm" onClick={() => start(file, true)}>
                {text.models.replaceLora}
              </Button>
            )
          }
        />
      )}
      {upload.data && (
        <div role="status" className="flex gap-3 rounded-lg bg-good-soft p-3 text-sm">
          <CircleCheck aria-hidden className="mt-0.5 size-4 shrink-0 text-good" />
          <div className="flex min-w-0 flex-col gap-1.5">
            <p className="font-medium wrap-anywhere">{text.models.stored(upload.data.lora_name)}</p>
            <LoraFit lora={upload.data.lora} />
            <p className="text-muted">{text.models.allKeysUsed}</p>
          </div>
        </div>
      )}
    </div>
  );
}

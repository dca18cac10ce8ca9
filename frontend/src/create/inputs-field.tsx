/** Inputs of a video: a first frame, a last frame, or a video to change. */
import { useEffect } from "react";
import { useText } from "@/text";
import { Field, Slider } from "@/ui/field";
import { DropZone } from "./drop-zone";
import type { Input } from "./form";
import { useCreateForm, useModelChoice, useValues } from "./state";
import { IMAGES, useUpload, VIDEOS } from "./upload";

export function InputsField() {
  const text = useText();
  const form = useCreateForm();
  const values = useValues();
  const { models } = useModelChoice();
  const set = (name: "firstFrame" | "lastFrame" | "video") => (input: Input | null) =>
    form.setValue(name, input, { shouldDirty: true });
  const takes = {
    image: models.some((model) => model.image !== "none"),
    end: models.some((model) => model.end_image),
    video: models.some((model) => model.video),
  };
  const { width, height } = useFrame();
  const frame = width && height ? { width, height } : null;
  return (
    <div className="flex flex-col gap-3">
      <p className="text-sm font-medium" id="inputs-label">
        {text.create.inputs} <span className="font-normal text-muted text-xs">{text.common.optional}</span>
      </p>
      <fieldset aria-labelledby="inputs-label" className="grid grid-cols-3 gap-2">
        {takes.image && (
          <DropZone
            label={text.create.firstFrame}
            value={values.firstFrame}
            onChange={set("firstFrame")}
            accept={`${IMAGES},${VIDEOS}`}
            frame={frame}
            disabled={values.video !== null}
          />
        )}
        {takes.end && (
          <DropZone
            label={text.create.lastFrame}
            value={values.lastFrame}
            onChange={set("lastFrame")}
            accept={IMAGES}
            frame={frame}
            disabled={values.video !== null || values.isStoryboard}
          />
        )}
        {takes.video && (
          <DropZone
            label={text.create.video}
            value={values.video}
            onChange={set("video")}
            accept={VIDEOS}
            frame={frame}
            disabled={values.firstFrame !== null || values.lastFrame !== null || values.isStoryboard}
          />
        )}
      </fieldset>
      {values.firstFrame?.kind === "video" && (
        <p className="text-xs text-muted">{text.create.continueFrom}</p>
      )}
      {values.video && (
        <Field
          label={text.create.strength}
          hint={text.create.strengthHint}
          aside={`${Math.round(values.strength * 100)} %`}
        >
          {(props) => (
            <Slider
              {...props}
              label={text.create.strength}
              min={5}
              max={100}
              step={5}
              value={Math.round(values.strength * 100)}
              valueText={`${Math.round(values.strength * 100)} %`}
              onChange={(percent) => form.setValue("strength", percent / 100)}
            />
          )}
        </Field>
      )}
      <PasteTarget />
    </div>
  );
}

/** The chosen size in pixels; nulls while the service chooses it from the input. */
function useFrame(): { width: number | null; height: number | null } {
  const { size } = useValues();
  const [width = null, height = null] = size ? size.split("x").map(Number) : [];
  return { width, height };
}

/** Takes pictures that are pasted, or dropped anywhere on the page, as the first frame. */
function PasteTarget() {
  const form = useCreateForm();
  const upload = useUpload((input) => {
    const isFree = !form.getValues("firstFrame");
    form.setValue(isFree || input.kind === "video" ? "firstFrame" : "lastFrame", input, {
      shouldDirty: true,
    });
  });
  const { mutate } = upload;
  useEffect(() => {
    const take = (files: FileList | undefined, event: Event) => {
      const file = [...(files ?? [])].find(
        (found) => `${IMAGES},${VIDEOS}`.includes(found.type) && found.type !== "",
      );
      if (!file) return;
      event.preventDefault();
      mutate(file);
    };
    const onPaste = (event: ClipboardEvent) => take(event.clipboardData?.files, event);
    const onDrop = (event: DragEvent) => take(event.dataTransfer?.files, event);
    const onDragOver = (event: DragEvent) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    };
    addEventListener("paste", onPaste);
    addEventListener("drop", onDrop);
    addEventListener("dragover", onDragOver);
    return () => {
      removeEventListener("paste", onPaste);
      removeEventListener("drop", onDrop);
      removeEventListener("dragover", onDragOver);
    };
  }, [mutate]);
  return null;
}

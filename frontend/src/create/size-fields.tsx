/** The model, the size and the length. Only what the model really makes is offered. */
import { useEffect } from "react";
import type { Model } from "@/api/types";
import { useText } from "@/text";
import { Choices, Field, Select, Slider } from "@/ui/field";
import { AUTO } from "./form";
import { accepts, frameLimits, parseSize, type Shape, type Size } from "./models";
import { useCreateForm, useValues } from "./state";

export function ModelField({ models, model }: { models: readonly Model[]; model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const values = useValues();
  const isWrong = !accepts(model, values);
  return (
    <Field
      label={text.create.model}
      error={
        isWrong ? (model.image === "required" ? text.create.needsImage : text.create.noImages) : undefined
      }
    >
      {(props) => (
        <Select
          {...props}
          value={values.model}
          onChange={(event) => form.setValue("model", event.target.value)}
        >
          <option value={AUTO}>{text.create.autoModel(values.model === AUTO ? model.title : "…")}</option>
          {models.map((item) => (
            <option key={item.id} value={item.id}>
              {item.title}
            </option>
          ))}
        </Select>
      )}
    </Field>
  );
}

const SHAPES: readonly Shape[] = ["landscape", "square", "portrait"];

export function SizeField({ model }: { model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const { size, firstFrame, video } = useValues();
  const hasInput = firstFrame !== null || video !== null;
  const sizes = model.sizes.map(parseSize);
  const chosen = parseSize(size ?? model.size);
  const isKnown = size === null || model.sizes.includes(size);
  useEffect(() => {
    if (!isKnown) form.setValue("size", null);
  }, [form, isKnown]);
  const shapes = SHAPES.filter((shape) => sizes.some((item) => item.shape === shape));
  const isLikeInput = size === null && hasInput;
  return (
    <div className="flex flex-col gap-2">
      <Field label={text.create.size} aside={isLikeInput ? undefined : `${chosen.width}×${chosen.height}`}>
        {(props) => (
          <Select
            {...props}
            value={size ?? (hasInput ? "" : model.size)}
            onChange={(event) => form.setValue("size", event.target.value || null)}
          >
            {hasInput && <option value="">{text.create.sizeLikeInput}</option>}
            {shapes.map((shape) => (
              <optgroup key={shape} label={text.create.shape[shape]}>
                {sizes
                  .filter((item) => item.shape === shape)
                  .map((item) => (
                    <option key={item.name} value={item.name}>
                      {item.width}×{item.height}
                    </option>
                  ))}
              </optgroup>
            ))}
          </Select>
        )}
      </Field>
      {!isLikeInput && (
        <Choices
          label={text.create.size}
          value={chosen.shape}
          onChange={(shape) => form.setValue("size", nearest(sizes, shape, chosen)?.name ?? null)}
          options={shapes.map((shape) => ({
            value: shape,
            label: <ShapeLabel shape={shape} name={text.create.shape[shape]} />,
          }))}
        />
      )}
    </div>
  );
}

function ShapeLabel({ shape, name }: { shape: Shape; name: string }) {
  const box = { landscape: "h-2.5 w-4", square: "size-3", portrait: "h-4 w-2.5" }[shape];
  return (
    <>
      <span aria-hidden className={`${box} rounded-[2px] border-[1.5px] border-current`} />
      {name}
    </>
  );
}

/** Returns the size of a shape whose area is nearest to that of the present size. */
function nearest(sizes: readonly Size[], shape: Shape, present: Size) {
  const area = present.width * present.height;
  return sizes
    .filter((item) => item.shape === shape)
    .sort((a, b) => Math.abs(a.width * a.height - area) - Math.abs(b.width * b.height - area))[0];
}

export function LengthField({ model }: { model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const { numFrames, fps } = useValues();
  const { min, max } = frameLimits(model);
  const frames = Math.min(numFrames ?? model.num_frames, max);
  const seconds = (frames / (fps ?? model.fps)).toFixed(1);
  return (
    <Field label={text.create.length} aside={text.create.lengthValue(seconds, frames)}>
      {(props) => (
        <Slider
          {...props}
          label={text.create.length}
          valueText={text.create.lengthValue(seconds, frames)}
          min={min}
          max={max}
          step={4}
          value={frames}
          onChange={(value) => form.setValue("numFrames", value === model.num_frames ? null : value)}
        />
      )}
    </Field>
  );
}

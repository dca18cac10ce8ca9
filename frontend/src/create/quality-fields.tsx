/** Steps, presets, variations, the seed, and the options that few people change. */
import { Dices, Lock, LockOpen } from "lucide-react";
import type { Model } from "@/api/types";
import { useText } from "@/text";
import { IconButton } from "@/ui/button";
import { Choices, Field, Input, Select, Slider, Textarea } from "@/ui/field";
import { PROMPT_LIMIT, randomSeed } from "./form";
import { useCreateForm, useValues } from "./state";

export function QualityField({ model }: { model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const { preset, steps } = useValues();
  const defaultSteps = (preset && model.preset_values[preset]?.steps) || model.steps;
  const present = steps ?? defaultSteps;
  const names = ["", ...model.presets.filter((name) => name !== "repository")];
  return (
    <div className="flex flex-col gap-2">
      {names.length > 1 && (
        <Choices
          label={text.create.preset}
          value={preset && model.presets.includes(preset) ? preset : ""}
          onChange={(name) => {
            form.setValue("preset", name || null);
            form.setValue("steps", null);
          }}
          options={names.map((name) => ({
            value: name,
            label: text.create.presets[name || "default"] ?? name,
          }))}
        />
      )}
      <Field label={text.create.quality} aside={present}>
        {(props) => (
          <Slider
            {...props}
            label={text.create.quality}
            min={1}
            max={Math.max(50, present)}
            value={present}
            onChange={(value) => form.setValue("steps", value === defaultSteps ? null : value)}
          />
        )}
      </Field>
    </div>
  );
}

export function SeedField() {
  const text = useText();
  const form = useCreateForm();
  const { seed } = useValues();
  const isLocked = seed !== null;
  return (
    <Field label={text.create.seed}>
      {(props) => (
        <div className="flex gap-1">
          <Input
            {...props}
            inputMode="numeric"
            placeholder={text.create.seedRandom}
            value={seed ?? ""}
            onChange={(event) => {
              const digits = event.target.value.replace(/\D/g, "").slice(0, 15);
              form.setValue("seed", digits ? Number(digits) : null);
            }}
            className="tabular"
          />
          <IconButton label={text.create.rollSeed} onClick={() => form.setValue("seed", randomSeed())}>
            <Dices />
          </IconButton>
          <IconButton
            label={isLocked ? text.create.unlockSeed : text.create.lockSeed}
            aria-pressed={isLocked}
            className={isLocked ? "text-accent-text" : ""}
            onClick={() => form.setValue("seed", isLocked ? null : randomSeed())}
          >
            {isLocked ? <Lock /> : <LockOpen />}
          </IconButton>
        </div>
      )}
    </Field>
  );
}

export function VariationsField() {
  const text = useText();
  const form = useCreateForm();
  const { variations } = useValues();
  return (
    <Field label={text.create.variations}>
      {(props) => (
        <Select
          {...props}
          value={variations}
          onChange={(event) => form.setValue("variations", Number(event.target.value))}
        >
          {[1, 2, 3, 4, 5, 6, 7, 8].map((count) => (
            <option key={count}>{count}</option>
          ))}
        </Select>
      )}
    </Field>
  );
}

export function AdvancedFields({ model }: { model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const values = useValues();
  return (
    <div className="grid grid-cols-2 gap-x-3 gap-y-4">
      <Field label={text.create.negative} hint={text.create.negativeHint} className="col-span-2">
        {(props) => (
          <Textarea
            {...props}
            maxLength={PROMPT_LIMIT}
            placeholder={model.negative_prompt.slice(0, 120)}
            value={values.negativePrompt ?? ""}
            onChange={(event) => form.setValue("negativePrompt", event.target.value || null)}
          />
        )}
      </Field>
      <NumberField
        name="guidance"
        label={text.create.guidance}
        standard={model.guidance_scale}
        hint={text.create.guidanceHint}
      />
      {model.guidance_scale_2 !== null && (
        <NumberField name="guidance2" label={text.create.guidance2} standard={model.guidance_scale_2} />
      )}
      <NumberField name="flowShift" label={text.create.flowShift} standard={model.flow_shift} />
      <NumberField name="fps" label={text.create.fps} standard={model.fps} />
      <Field label={text.create.priority}>
        {(props) => (
          <Select
            {...props}
            value={values.priority}
            onChange={(event) => form.setValue("priority", event.target.value as "low" | "normal" | "high")}
          >
            {(["low", "normal", "high"] as const).map((name) => (
              <option key={name} value={name}>
                {text.create.priorities[name]}
              </option>
            ))}
          </Select>
        )}
      </Field>
    </div>
  );
}

/** A number whose empty field means the model's own value, which the field shows. */
function NumberField({
  name,
  label,
  standard,
  hint,
}: {
  name: "guidance" | "guidance2" | "flowShift" | "fps";
  label: string;
  standard: number;
  hint?: string;
}) {
  const form = useCreateForm();
  const error = form.formState.errors[name]?.message;
  return (
    <Field label={label} hint={hint} error={error}>
      {(props) => (
        <Input
          {...props}
          type="number"
          step="any"
          min={0}
          placeholder={String(standard)}
          {...form.register(name, {
            setValueAs: (value) => (value === "" || value === null ? null : Number(value)),
          })}
        />
      )}
    </Field>
  );
}

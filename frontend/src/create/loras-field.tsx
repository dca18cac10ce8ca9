import { useQuery } from "@tanstack/react-query";
import { Link2, Plus, Unlink2, X } from "lucide-react";
import { lorasQuery } from "@/api/queries";
import type { Lora, Model } from "@/api/types";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { Slider } from "@/ui/field";
import { Menu, MenuItem } from "@/ui/menu";
import type { LoraUse } from "./form";
import { useCreateForm, useValues } from "./state";

const MAX_STRENGTH = 2;

export function LorasField({ model }: { model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const { loras, prompt } = useValues();
  const known = useQuery(lorasQuery).data?.loras ?? [];
  const fitting = known.filter((lora) => lora.fits.includes(model.id));
  const free = fitting.filter((lora) => !loras.some((use) => use.name === lora.name));
  const change = (uses: LoraUse[]) => form.setValue("loras", uses, { shouldDirty: true });
  return (
    <div className="flex flex-col gap-2">
      {loras.map((use) => (
        <LoraRow
          key={use.name}
          use={use}
          lora={known.find((lora) => lora.name === use.name)}
          model={model}
          prompt={prompt}
          onChange={(next) => change(loras.map((item) => (item.name === use.name ? next : item)))}
          onRemove={() => change(loras.filter((item) => item.name !== use.name))}
          onTrigger={(word) => form.setValue("prompt", prompt ? `${word}, ${prompt}` : word)}
        />
      ))}
      {free.length > 0 && (
        <Menu
          align="start"
          trigger={
            <Button size="sm" className="self-start">
              <Plus />
              {text.create.addLora}
            </Button>
          }
        >
          {free.map((lora) => (
            <MenuItem
              key={lora.name}
              onSelect={() => change([...loras, { name: lora.name, strength: 1, strength2: null }])}
            >
              {lora.name}
            </MenuItem>
          ))}
        </Menu>
      )}
      {fitting.length === 0 && <p className="text-xs text-muted">{text.create.noLoras}</p>}
    </div>
  );
}

function LoraRow({
  use,
  lora,
  model,
  prompt,
  onChange,
  onRemove,
  onTrigger,
}: {
  use: LoraUse;
  lora: Lora | undefined;
  model: Model;
  prompt: string;
  onChange: (use: LoraUse) => void;
  onRemove: () => void;
  onTrigger: (word: string) => void;
}) {
  const text = useText();
  const hasTwoExperts = model.guidance_scale_2 !== null;
  const isSplit = hasTwoExperts && use.strength2 !== null;
  const missing = (lora?.trigger_words ?? []).filter(
    (word) => !prompt.toLowerCase().includes(word.toLowerCase()),
  );
  return (
    <div className="rounded-lg border bg-surface p-2.5">
      <div className="flex items-center gap-1">
        <span className="min-w-0 flex-1 truncate text-sm" title={use.name}>
          {use.name}
        </span>
        {hasTwoExperts && (
          <IconButton
            size="sm"
            label={text.create.separate}
            aria-pressed={isSplit}
            onClick={() => onChange({ ...use, strength2: isSplit ? null : use.strength })}
          >
            {isSplit ? <Unlink2 /> : <Link2 />}
          </IconButton>
        )}
        <IconButton size="sm" label={`${text.common.remove}: ${use.name}`} onClick={onRemove}>
          <X />
        </IconButton>
      </div>
      <Strength
        name={use.name}
        expert={isSplit ? text.create.highNoise : null}
        value={use.strength}
        onChange={(strength) => onChange({ ...use, strength })}
      />
      {isSplit && use.strength2 !== null && (
        <Strength
          name={use.name}
          expert={text.create.lowNoise}
          value={use.strength2}
          onChange={(strength2) => onChange({ ...use, strength2 })}
        />
      )}
      {missing.length > 0 && (
        <p className="mt-1.5 flex flex-wrap items-center gap-1 text-xs text-muted">
          {text.create.triggers}:
          {missing.map((word) => (
            <button
              key={word}
              type="button"
              title={text.create.addTrigger(word)}
              onClick={() => onTrigger(word)}
              className="rounded-full border bg-raised px-2 py-0.5 hover:border-line-strong hover:text-text"
            >
              {word}
            </button>
          ))}
        </p>
      )}
    </div>
  );
}

function Strength({
  name,
  expert,
  value,
  onChange,
}: {
  name: string;
  expert: string | null;
  value: number;
  onChange: (value: number) => void;
}) {
  const text = useText();
  const label = [text.create.strengthOf(name), expert].filter(Boolean).join(", ");
  return (
    <div className="flex items-center gap-2 text-xs text-muted">
      {expert && <span className="w-20 shrink-0">{expert}</span>}
      <Slider label={label} min={0} max={MAX_STRENGTH} step={0.05} value={value} onChange={onChange} />
      <span className="w-8 shrink-0 text-right tabular">{value.toFixed(2)}</span>
    </div>
  );
}

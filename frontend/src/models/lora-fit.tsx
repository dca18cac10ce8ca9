import type { Lora } from "@/api/types";
import { useText } from "@/text";

/** The models that can use a LoRA, or the reason why none can. */
export function LoraFit({ lora }: { lora: Lora }) {
  const text = useText();
  if (lora.fits.length === 0)
    return <p className="text-sm text-warn wrap-anywhere">{lora.problem ?? text.models.fitsNone}</p>;
  return (
    <p className="flex flex-wrap items-center gap-1.5 text-sm">
      <span className="text-muted">{text.models.fits}</span>
      {lora.fits.map((model) => (
        <span key={model} className="rounded-sm border px-1.5 font-mono text-xs">
          {model}
        </span>
      ))}
    </p>
  );
}

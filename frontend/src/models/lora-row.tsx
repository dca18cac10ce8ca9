import { Trash2 } from "lucide-react";
import { useState } from "react";
import type { Lora } from "@/api/types";
import { useSession } from "@/session/session";
import { useText } from "@/text";
import { Badge } from "@/ui/badge";
import { IconButton } from "@/ui/button";
import { CopyButton } from "@/ui/copy";
import { DeleteLora } from "./delete-lora";
import { LoraFit } from "./lora-fit";

export function LoraRow({ lora }: { lora: Lora }) {
  const text = useText();
  const { can } = useSession();
  const [isDeleting, setDeleting] = useState(false);
  const experts =
    lora.experts.length === 2 ? text.models.bothExperts : lora.experts.map(expertName).join(", ");
  function expertName(expert: string) {
    return expert === "high_noise" ? text.create.highNoise : text.create.lowNoise;
  }
  const facts = [
    text.common.size(lora.size_mb),
    experts,
    lora.rank !== null && text.models.rank(lora.rank),
  ].filter(Boolean);
  return (
    <li className="flex items-start gap-3 p-4">
      <div className="flex min-w-0 flex-1 flex-col gap-2">
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <h3 className="font-medium wrap-anywhere">{lora.name}</h3>
          {lora.is_builtin && <Badge>{text.models.builtin}</Badge>}
          {lora.is_applied && <Badge tone="accent">{text.models.inUse}</Badge>}
          <p className="text-sm text-muted tabular">{facts.join(" · ")}</p>
        </div>
        <LoraFit lora={lora} />
        {lora.trigger_words.length > 0 && (
          <div className="flex flex-wrap items-center gap-1.5 text-sm">
            <span className="text-muted">{text.create.triggers}</span>
            {lora.trigger_words.map((word) => (
              <span key={word} className="flex items-center rounded-md bg-sunken pl-2 text-sm">
                {word}
                <CopyButton value={word} label={text.models.copyTrigger(word)} />
              </span>
            ))}
          </div>
        )}
      </div>
      {can("admin") && !lora.is_builtin && (
        <IconButton label={text.models.deleteLora(lora.name)} onClick={() => setDeleting(true)}>
          <Trash2 />
        </IconButton>
      )}
      <DeleteLora name={lora.name} open={isDeleting} onOpenChange={setDeleting} />
    </li>
  );
}

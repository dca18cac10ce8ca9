import { diffWords } from "diff";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import type { Enhanced } from "./enhancement";

/** The enhanced prompt with its additions marked, and the choice between it and the user's own. */
export default function EnhancementPanel({
  found,
  onUse,
  onKeep,
}: {
  found: Enhanced;
  onUse: () => void;
  onKeep: () => void;
}) {
  const text = useText();
  const isSame = found.enhanced_prompt === found.original_prompt;
  // biome-ignore format: one expression
  const parts = diffWords(found.original_prompt, found.enhanced_prompt).map((part, index) => ({ ...part, key: index }));
  return (
    <section aria-label={text.create.enhanced} className="appear rounded-lg border bg-surface p-3 text-sm">
      {isSame ? (
        <p className="text-muted">{found.notes[0] ?? text.create.enhanceNothing}</p>
      ) : (
        <p className="leading-relaxed">
          {parts.map((part) =>
            part.added ? (
              <ins key={part.key} className="rounded-sm bg-good-soft text-good no-underline">
                {part.value}
              </ins>
            ) : part.removed ? (
              <del key={part.key} className="rounded-sm bg-bad-soft text-bad">
                {part.value}
              </del>
            ) : (
              <span key={part.key}>{part.value}</span>
            ),
          )}
        </p>
      )}
      <div className="mt-3 flex gap-2">
        {!isSame && (
          <Button size="sm" look="primary" onClick={onUse}>
            {text.create.useEnhanced}
          </Button>
        )}
        <Button size="sm" onClick={onKeep}>
          {isSame ? text.common.close : text.create.keepMine}
        </Button>
      </div>
    </section>
  );
}

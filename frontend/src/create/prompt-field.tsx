import { CornerDownLeft, Sparkles, Undo2 } from "lucide-react";
import { lazy, Suspense, useState } from "react";
import { useController } from "react-hook-form";
import type { Model } from "@/api/types";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Field, Textarea } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { useEnhancement } from "./enhancement";
import { type FormValues, PROMPT_LIMIT, TOKEN_LIMIT } from "./form";
import { estimateTokens } from "./models";

const EnhancementPanel = lazy(() => import("./enhancement-panel"));
/** Share of a limit from which the page shows how much of it is used. */
const NEAR = 0.6;

export function PromptField({ model }: { model: Model | undefined }) {
  const text = useText();
  const { field } = useController<FormValues, "prompt">({ name: "prompt" });
  const enhancement = useEnhancement(field.value);
  const [before, setBefore] = useState<{ mine: string; enhanced: string } | null>(null);
  const tokens = estimateTokens(field.value);
  const canUndo = before !== null && before.enhanced === field.value;
  const found = enhancement.data;
  return (
    <div className="flex flex-col gap-2">
      <Field
        label={text.create.prompt}
        aside={
          field.value.length > PROMPT_LIMIT * NEAR
            ? text.create.counter(field.value.length, PROMPT_LIMIT)
            : tokens > TOKEN_LIMIT * NEAR
              ? text.create.tokens(tokens, TOKEN_LIMIT)
              : field.value.length > 0 && `${field.value.length}`
        }
        hint={tokens > TOKEN_LIMIT ? text.create.tooManyTokens : undefined}
      >
        {(props) => (
          <Textarea
            {...props}
            {...field}
            id="prompt"
            aria-label={text.create.prompt}
            maxLength={PROMPT_LIMIT}
            rows={4}
            placeholder={model?.examples[0] ?? text.create.promptHint}
            className="min-h-28 text-base"
          />
        )}
      </Field>
      <div className="flex flex-wrap items-center gap-1.5">
        <Button
          size="sm"
          disabled={!field.value.trim() || enhancement.isPending}
          onClick={() => enhancement.mutate()}
        >
          <Sparkles />
          {enhancement.isPending ? text.create.enhancing : text.create.enhance}
        </Button>
        {canUndo && (
          <Button
            size="sm"
            look="quiet"
            onClick={() => {
              field.onChange(before.mine);
              setBefore(null);
            }}
          >
            <Undo2 />
            {text.create.undoEnhance}
          </Button>
        )}
        {!field.value && model && model.examples.length > 0 && (
          <Examples examples={model.examples} onPick={field.onChange} />
        )}
      </div>
      {enhancement.error && <ErrorNotice error={enhancement.error} />}
      {found && found.original_prompt === field.value.trim() && (
        <Suspense>
          <EnhancementPanel
            found={found}
            onUse={() => {
              setBefore({ mine: field.value, enhanced: found.enhanced_prompt });
              field.onChange(found.enhanced_prompt);
              enhancement.reset();
            }}
            onKeep={enhancement.reset}
          />
        </Suspense>
      )}
    </div>
  );
}

function Examples({ examples, onPick }: { examples: readonly string[]; onPick: (prompt: string) => void }) {
  const text = useText();
  return (
    <ul aria-label={text.create.examples} className="mt-1 flex w-full flex-col gap-1">
      {examples.slice(0, 3).map((example) => (
        <li key={example} className="flex">
          <button
            type="button"
            title={example}
            onClick={() => onPick(example)}
            className="flex min-w-0 items-center gap-2 rounded-md px-2 py-1 text-left text-sm text-muted transition-colors hover:bg-sunken hover:text-text"
          >
            <CornerDownLeft aria-hidden className="size-3.5 shrink-0" />
            <span className="truncate">{example}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

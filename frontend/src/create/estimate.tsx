/** Estimate of the form: time, place in the queue, memory; and what to change if it does not fit. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { TriangleAlert } from "lucide-react";
import { useEffect, useState } from "react";
import { api, data } from "@/api/client";
import { ApiError } from "@/api/errors";
import type { Model } from "@/api/types";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { type FormValues, type SubmitBody, toRequest } from "./form";
import { useCreateForm } from "./state";

const WAIT_MS = 350;

export function EstimateLine({ values, model }: { values: FormValues; model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const { data: found, error } = useEstimate(values, model);
  if (error instanceof ApiError && error.status < 500) {
    return (
      <Warning message={error.message}>
        <Suggestions
          suggestions={error.suggestions}
          model={model}
          onSize={(size) => form.setValue("size", size)}
        />
      </Warning>
    );
  }
  if (!found) return <p className="h-5 text-xs text-muted" aria-hidden />;
  if (found.fits === false) {
    return (
      <Warning message={found.reasons[0] ?? text.create.estimate.noFit}>
        <Suggestions
          suggestions={found.suggestions}
          model={model}
          onSize={(size) => form.setValue("size", size)}
        />
      </Warning>
    );
  }
  const parts = [
    found.estimated_seconds === null
      ? text.create.estimate.unknownTime
      : text.create.estimate.time(text.common.duration(found.estimated_seconds)),
    found.queue_position > 1
      ? text.create.estimate.ahead(found.queue_position - 1)
      : found.wait_seconds === 0
        ? text.create.estimate.next
        : text.create.estimate.first,
    found.peak_memory_mb !== null && text.create.estimate.memory((found.peak_memory_mb / 1000).toFixed(1)),
  ];
  return (
    <p aria-live="polite" className="min-h-5 text-xs text-muted tabular">
      {parts.filter(Boolean).join(" · ")}
    </p>
  );
}

function Warning({ message, children }: { message: string; children: React.ReactNode }) {
  return (
    <div role="status" className="flex gap-2 rounded-md bg-warn-soft p-2.5 text-xs">
      <TriangleAlert aria-hidden className="mt-0.5 size-3.5 shrink-0 text-warn" />
      <div className="min-w-0">
        <p className="font-medium wrap-anywhere">{message}</p>
        {children}
      </div>
    </div>
  );
}

/** The service's suggestions. A size of the model in one of them can be applied at once. */
function Suggestions({
  suggestions,
  model,
  onSize,
}: {
  suggestions: readonly string[];
  model: Model;
  onSize: (size: string) => void;
}) {
  const text = useText();
  return suggestions.map((suggestion) => {
    const size = suggestion.match(/\b\d{2,4}x\d{2,4}\b/)?.[0];
    return (
      <p key={suggestion} className="mt-1 text-muted">
        {suggestion}{" "}
        {size && model.sizes.includes(size) && (
          <Button size="sm" onClick={() => onSize(size)}>
            {text.create.estimate.apply}
          </Button>
        )}
      </p>
    );
  });
}

function useEstimate(values: FormValues, model: Model) {
  const body = toRequest(values, model);
  // The estimate does not depend on the words, and a form without words has one, too.
  const request: Partial<SubmitBody> = body.segments
    ? { ...body, segments: body.segments.map((part) => ({ ...part, prompt: "-" })) }
    : { ...body, prompt: "-" };
  const key = useSettled(JSON.stringify(request), WAIT_MS);
  return useQuery({
    queryKey: ["queue", "estimate", key],
    queryFn: ({ signal }) =>
      data(api.POST("/api/v1/generation/estimate", { body: JSON.parse(key) as SubmitBody, signal })),
    placeholderData: keepPreviousData,
    enabled: model.image !== "required" || values.firstFrame !== null,
  });
}

/** Returns a value once it has not changed for a time. */
function useSettled(value: string, ms: number): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

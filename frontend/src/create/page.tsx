/** The page on which videos are made: the form, and beside it what becomes of it. */
import { useIsMutating } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { ChevronRight } from "lucide-react";
import { Collapsible } from "radix-ui";
import { lazy, type ReactNode, Suspense, useCallback, useEffect, useRef, useState } from "react";
import { FormProvider } from "react-hook-form";
import type { Model } from "@/api/types";
import { useSession } from "@/session/session";
import { recall, remember, SUBMITTED } from "@/shell/memory";
import { PageHead } from "@/shell/shell";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Choices } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { EstimateLine } from "./estimate";
import { isComplete, newSegment } from "./form";
import { InputsField } from "./inputs-field";
import { LorasField } from "./loras-field";
import { accepts } from "./models";
import { PresetsMenu } from "./presets-menu";
import { PromptField } from "./prompt-field";
import { AdvancedFields, QualityField, SeedField, VariationsField } from "./quality-fields";
import { Results } from "./result";
import { LengthField, ModelField, SizeField } from "./size-fields";
import { useSource } from "./source";
import { useCreateForm, useModelChoice, useValues, useVideoForm } from "./state";
import { useSubmit } from "./submit";
import { UPLOAD } from "./upload";

const Storyboard = lazy(() => import("./storyboard"));

export function CreatePage() {
  const text = useText();
  const form = useVideoForm();
  const search = useSearch({ from: "/" });
  useSource(search, form);
  const [ids, setIds] = useState<string[]>(() => recall<string[]>(SUBMITTED) ?? []);
  const results = useRef<HTMLElement>(null);
  const onSubmitted = useCallback((next: string[]) => {
    remember(SUBMITTED, next);
    setIds(next);
    results.current?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }, []);
  return (
    <FormProvider {...form}>
      <PageHead title={text.create.title}>
        <PresetsMenu />
      </PageHead>
      <div className="page-width grid flex-1 items-start gap-x-8 gap-y-6 pb-8 lg:grid-cols-[minmax(20rem,26rem)_minmax(0,1fr)]">
        <VideoForm ids={ids} onSubmitted={onSubmitted} results={results} />
      </div>
    </FormProvider>
  );
}

function VideoForm({
  ids,
  onSubmitted,
  results,
}: {
  ids: string[];
  onSubmitted: (ids: string[]) => void;
  results: React.RefObject<HTMLElement | null>;
}) {
  const text = useText();
  const form = useCreateForm();
  const values = useValues();
  const { models, model, error } = useModelChoice();
  const submit = useSubmit(onSubmitted);
  const { can } = useSession();
  const isUploading = useIsMutating({ mutationKey: UPLOAD }) > 0;
  const ready =
    !isUploading &&
    can("submit") &&
    model !== undefined &&
    isComplete(values, model) &&
    accepts(model, values);
  const send = () => {
    if (ready && !submit.isPending)
      void form.handleSubmit((checked) => submit.mutate({ values: checked, model }))();
  };
  return (
    <>
      <form
        aria-label={text.create.title}
        className="flex min-w-0 flex-col gap-5"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
        }}
      >
        <Script model={model} />
        <InputsField />
        {error && !model && <ErrorNotice error={error} />}
        {model ? <Fields models={models} model={model} /> : !error && <div className="skeleton h-64" />}
        <div className="sticky bottom-16 z-10 -mx-1 flex flex-col gap-2 bg-page px-1 pt-1 pb-3 before:pointer-events-none before:absolute before:inset-x-0 before:bottom-full before:h-6 before:bg-linear-to-t before:from-page before:to-transparent md:bottom-0">
          {model && <EstimateLine values={values} model={model} />}
          {submit.error && <ErrorNotice error={submit.error} />}
          <Button type="submit" look="primary" size="lg" disabled={!ready || submit.isPending}>
            {isUploading
              ? text.create.uploading
              : submit.isPending
                ? text.create.submitting
                : values.variations > 1
                  ? text.create.generateMany(values.variations)
                  : text.create.generate}
          </Button>
        </div>
      </form>
      <section
        ref={results}
        aria-label={text.create.result}
        className="flex min-w-0 scroll-mt-16 flex-col lg:sticky lg:top-6"
      >
        <Results
          ids={ids}
          onAgain={
            ready && !submit.isPending
              ? () => {
                  form.setValue("seed", null);
                  submit.mutate({ values: { ...form.getValues(), seed: null }, model });
                }
              : null
          }
        />
      </section>
    </>
  );
}

/** The words: one prompt, or a storyboard of several. */
function Script({ model }: { model: Model | undefined }) {
  const text = useText();
  const form = useCreateForm();
  const { isStoryboard, segments, prompt, video } = useValues();
  const { models } = useModelChoice();
  const canContinue = models.some((item) => item.image !== "none");
  useEffect(() => {
    if (isStoryboard && segments.length < 2) form.setValue("segments", [newSegment(prompt), newSegment()]);
  }, [form, isStoryboard, segments, prompt]);
  return (
    <div className="flex flex-col gap-3">
      {canContinue && !video && (
        <Choices
          label={text.create.storyboard}
          value={isStoryboard ? "storyboard" : "shot"}
          onChange={(value) => form.setValue("isStoryboard", value === "storyboard")}
          options={[
            { value: "shot", label: text.create.oneShot },
            { value: "storyboard", label: text.create.storyboard },
          ]}
        />
      )}
      {isStoryboard && !video && model ? (
        <Suspense fallback={<div className="skeleton h-72" />}>
          <Storyboard model={model} />
        </Suspense>
      ) : (
        <PromptField model={model} />
      )}
    </div>
  );
}

function Fields({ models, model }: { models: readonly Model[]; model: Model }) {
  const text = useText();
  const { isStoryboard, loras } = useValues();
  return (
    <>
      <ModelField models={models} model={model} />
      <SizeField model={model} />
      {!isStoryboard && <LengthField model={model} />}
      <QualityField model={model} />
      <div className="grid grid-cols-[1fr_6.5rem] gap-3">
        <SeedField />
        <VariationsField />
      </div>
      <Section title={text.create.loras} count={loras.length}>
        <LorasField model={model} />
      </Section>
      <Section title={text.create.advanced}>
        <AdvancedFields model={model} />
      </Section>
    </>
  );
}

function Section({ title, count = 0, children }: { title: string; count?: number; children: ReactNode }) {
  return (
    <Collapsible.Root defaultOpen={count > 0} className="border-t pt-3">
      <Collapsible.Trigger className="group flex w-full items-center gap-2 text-sm font-medium">
        <ChevronRight
          aria-hidden
          className="size-4 text-muted transition-transform group-data-[state=open]:rotate-90"
        />
        {title}
        {count > 0 && <span className="text-muted tabular">{count}</span>}
      </Collapsible.Trigger>
      <Collapsible.Content className="pt-3">{children}</Collapsible.Content>
    </Collapsible.Root>
  );
}

/** The form's state: kept over a reload, and filled from a job that is used again. */
import { zodResolver } from "@hookform/resolvers/zod";
import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { type UseFormReturn, useForm, useFormContext, useWatch } from "react-hook-form";
import { modelsQuery } from "@/api/queries";
import type { Model } from "@/api/types";
import { DRAFT, recall, remember } from "@/shell/memory";
import { EMPTY_FORM, type FormValues, formSchema } from "./form";
import { chooseModel } from "./models";

const SAVE_MS = 300;

export function useVideoForm(): UseFormReturn<FormValues> {
  const form = useForm<FormValues>({ defaultValues: readDraft(), resolver: zodResolver(formSchema) });
  const values = useWatch({ control: form.control });
  useEffect(() => {
    const timer = setTimeout(() => remember(DRAFT, values), SAVE_MS);
    return () => clearTimeout(timer);
  }, [values]);
  return form;
}

function readDraft(): FormValues {
  const draft = formSchema.safeParse({ ...EMPTY_FORM, ...recall<object>(DRAFT) });
  return draft.success ? draft.data : EMPTY_FORM;
}

/** The form of the component around. */
export function useCreateForm(): UseFormReturn<FormValues> {
  return useFormContext<FormValues>();
}

/** All values of the form. The component is drawn again whenever one changes. */
export function useValues(): FormValues {
  const form = useCreateForm();
  return { ...form.getValues(), ...(useWatch({ control: form.control }) as FormValues) };
}

/** The served models, and the one that the form uses. */
export function useModelChoice(): {
  models: readonly Model[];
  model: Model | undefined;
  error: Error | null;
} {
  const { data, error } = useQuery(modelsQuery);
  const inputs = useValues();
  const models = data ?? [];
  return { models, model: chooseModel(models, inputs), error };
}

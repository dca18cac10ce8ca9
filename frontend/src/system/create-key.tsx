import { zodResolver } from "@hookform/resolvers/zod";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import { useForm } from "react-hook-form";
import { z } from "zod";
import { api, data } from "@/api/client";
import type { NewKey } from "@/api/types";
import type { Scope } from "@/session/session";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Dialog } from "@/ui/dialog";
import { Field, Input, Select } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { keysQuery } from "./queries";

const SCOPES = ["read", "submit", "admin"] as const satisfies readonly Scope[];
const LIFETIMES = [null, 1, 7, 30, 90, 365] as const;

export function CreateKey({
  open,
  onOpenChange,
  onCreated,
}: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  onCreated: (key: NewKey) => void;
}) {
  const text = useText();
  const client = useQueryClient();
  const schema = useMemo(
    () =>
      z.object({
        owner: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$/, text.system.ownerForm),
        scopes: z.array(z.enum(SCOPES)).min(1, text.system.scopeMissing),
        days: z.string(),
      }),
    [text],
  );
  const { register, handleSubmit, reset, formState } = useForm({
    resolver: zodResolver(schema),
    defaultValues: { owner: "", scopes: ["read", "submit"] as Scope[], days: "null" },
  });
  const { errors } = formState;
  const create = useMutation({
    mutationFn: ({ owner, scopes, days }: z.infer<typeof schema>) =>
      data(
        api.POST("/api/v1/keys", {
          body: { owner, scopes, expires_days: JSON.parse(days) as number | null },
        }),
      ),
    onSuccess: async (key) => {
      onOpenChange(false);
      onCreated(key);
      await client.invalidateQueries(keysQuery);
    },
  });
  const { reset: forget } = create;
  useEffect(() => {
    if (!open) return;
    reset();
    forget();
  }, [open, reset, forget]);
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={text.system.createKey}
      description={text.system.createKeyHint}
    >
      <form
        onSubmit={handleSubmit((values) => create.mutate(values))}
        className="flex flex-col gap-5"
        noValidate
      >
        <Field label={text.system.owner} hint={text.system.ownerHint} error={errors.owner?.message}>
          {(field) => <Input {...field} {...register("owner")} autoComplete="off" spellCheck={false} />}
        </Field>
        <fieldset className="flex flex-col gap-2">
          <legend className="mb-1.5 text-sm font-medium">{text.system.scopesLabel}</legend>
          {SCOPES.map((scope) => (
            <label key={scope} className="flex cursor-pointer items-start gap-2.5 text-sm">
              <input
                type="checkbox"
                value={scope}
                {...register("scopes")}
                className="mt-0.5 size-4 accent-accent"
              />
              <span>
                {text.system.scopes[scope].name}
                <span className="block text-xs text-muted">{text.system.scopes[scope].meaning}</span>
              </span>
            </label>
          ))}
          {errors.scopes?.message && (
            <p role="alert" className="text-xs text-bad">
              {errors.scopes.message}
            </p>
          )}
        </fieldset>
        <Field label={text.system.lifetime}>
          {(field) => (
            <Select {...field} {...register("days")}>
              {LIFETIMES.map((days) => (
                <option key={String(days)} value={String(days)}>
                  {days === null ? text.system.noExpiry : text.system.days(days)}
                </option>
              ))}
            </Select>
          )}
        </Field>
        {create.error && <ErrorNotice error={create.error} />}
        <div className="flex justify-end gap-2">
          <Button onClick={() => onOpenChange(false)}>{text.common.cancel}</Button>
          <Button type="submit" look="primary" disabled={create.isPending}>
            {text.system.create}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

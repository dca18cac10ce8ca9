import { zodResolver } from "@hookform/resolvers/zod";
import { useForm } from "react-hook-form";
import { z } from "zod";
import { ApiError } from "@/api/errors";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Field, Input } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import icon from "../icon.svg";
import { useSignIn } from "./session";

/** The screen in place of the page, where the service needs a key. */
export function SignIn() {
  const text = useText();
  const signIn = useSignIn();
  const schema = z.object({ key: z.string().trim().min(1, text.session.keyMissing) });
  const { register, handleSubmit, formState } = useForm({
    resolver: zodResolver(schema),
    defaultValues: { key: "" },
  });
  const isWrong = signIn.error instanceof ApiError && signIn.error.status === 401;
  const problem = formState.errors.key?.message ?? (isWrong ? text.session.keyWrong : undefined);
  return (
    <main className="flex min-h-dvh items-center justify-center p-4">
      <form
        onSubmit={handleSubmit(({ key }) => signIn.mutate(key))}
        className="appear flex w-full max-w-sm flex-col gap-5 rounded-xl border bg-surface p-6 shadow-lift"
        noValidate
      >
        <div className="flex items-center gap-3">
          <img src={icon} alt="" className="size-9" />
          <div>
            <h1 className="text-lg font-semibold">{text.session.title}</h1>
            <p className="text-sm text-muted">{text.app}</p>
          </div>
        </div>
        <Field label={text.session.key} hint={text.session.keyHint} error={problem}>
          {(field) => (
            <Input
              {...field}
              {...register("key")}
              type="password"
              autoComplete="current-password"
              autoFocus
              spellCheck={false}
              placeholder="wan22_…"
              className="font-mono"
            />
          )}
        </Field>
        {signIn.error && !isWrong && <ErrorNotice error={signIn.error} />}
        <Button type="submit" look="primary" size="lg" disabled={signIn.isPending}>
          {signIn.isPending ? text.session.signingIn : text.session.signIn}
        </Button>
        <p className="text-xs text-muted">{text.session.kept}</p>
      </form>
    </main>
  );
}

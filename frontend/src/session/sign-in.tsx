import { type FormEvent, useState } from "react";
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
  const [key, setKey] = useState("");
  const [isMissing, setMissing] = useState(false);
  const isWrong = signIn.error instanceof ApiError && signIn.error.status === 401;
  const problem = isMissing ? text.session.keyMissing : isWrong ? text.session.keyWrong : undefined;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setMissing(!key.trim());
    if (key.trim()) signIn.mutate(key.trim());
  };
  return (
    <main className="flex min-h-dvh items-center justify-center p-4">
      <form
        onSubmit={submit}
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
              value={key}
              onChange={(event) => setKey(event.target.value)}
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

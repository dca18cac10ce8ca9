import { useQuery } from "@tanstack/react-query";
import { useText } from "@/text";
import { Badge } from "@/ui/badge";
import { useMoment } from "./moments";
import { webhooksQuery } from "./queries";
import { Section } from "./section";

const TONES = { pending: "warn", delivered: "good", failed: "bad" } as const;

/** The newest webhooks, with the reason why one was not delivered. Renders nothing where no webhooks are used. */
export function Webhooks() {
  const text = useText();
  const moment = useMoment();
  const { data } = useQuery(webhooksQuery);
  if (!data || data.length === 0) return null;
  return (
    <Section title={text.system.webhooks}>
      <ul className="divide-y rounded-lg border bg-surface text-sm">
        {data.map((webhook) => (
          <li key={webhook.id} className="flex flex-wrap items-center gap-x-4 gap-y-1 p-3">
            <Badge tone={TONES[webhook.status]}>{text.system.webhookStates[webhook.status]}</Badge>
            <span className="min-w-0 flex-1 basis-60 truncate font-mono text-xs">{webhook.url}</span>
            <span className="text-xs text-muted tabular">
              {text.system.attempts(webhook.attempts)} · {moment(webhook.created_at)}
            </span>
            {webhook.status !== "delivered" && webhook.last_error && (
              <p className="w-full text-xs text-muted wrap-anywhere">{webhook.last_error}</p>
            )}
          </li>
        ))}
      </ul>
    </Section>
  );
}

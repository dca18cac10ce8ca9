import { useQuery } from "@tanstack/react-query";
import { Server } from "lucide-react";
import { modelsQuery } from "@/api/queries";
import { useText } from "@/text";
import { Badge } from "@/ui/badge";
import { ErrorNotice } from "@/ui/notices";
import { replicasQuery } from "./queries";
import { Section } from "./section";

/** The processes that generate videos, the models that they hold, and their running jobs. */
export function Replicas() {
  const text = useText();
  const { data, error, refetch } = useQuery(replicasQuery);
  const models = useQuery(modelsQuery).data;
  const titleOf = (id: string) => models?.find((model) => model.id === id)?.title ?? id;
  return (
    <Section title={text.system.replicas}>
      {error && !data && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!data && !error && (
        <div role="status" aria-label={text.common.loading} className="skeleton h-20 rounded-lg" />
      )}
      {data?.length === 0 && (
        <div className="flex items-center gap-4 rounded-lg border bg-surface p-4">
          <Server aria-hidden className="size-6 shrink-0 text-line-strong" strokeWidth={1.5} />
          <div>
            <p className="font-medium">{text.system.noReplicas}</p>
            <p className="text-sm text-muted">{text.system.noReplicasHint}</p>
          </div>
        </div>
      )}
      {data && data.length > 0 && (
        <ul className="divide-y rounded-lg border bg-surface">
          {data.map((replica) => (
            <li key={replica.id} className="flex flex-wrap items-start gap-x-6 gap-y-2 p-4">
              <div className="min-w-0 flex-1 basis-60">
                <p className="font-medium wrap-anywhere">{replica.device}</p>
                <p className="text-xs text-muted wrap-anywhere">
                  {replica.node} · {text.system.process(replica.process_id)} ·{" "}
                  <span className="font-mono">{replica.id}</span>
                </p>
              </div>
              <div className="min-w-0 flex-1 basis-60 text-sm">
                {replica.models.length === 0 ? (
                  <p className="text-muted">{text.system.holdsNothing}</p>
                ) : (
                  replica.models.map((model) => (
                    <p key={model.model} className="wrap-anywhere">
                      {titleOf(model.model)}
                      <span className="text-muted">
                        {model.vram_mb > 0 && ` · ${text.common.size(model.vram_mb)}`}
                        {model.plan.length > 0 && ` · ${model.plan.join(", ")}`}
                      </span>
                    </p>
                  ))
                )}
              </div>
              <div className="flex items-center gap-2 text-xs">
                <Badge tone={replica.job_id ? "accent" : "plain"}>
                  {replica.job_id ? text.models.working : text.models.idle}
                </Badge>
                {replica.job_id && <span className="font-mono text-muted">{replica.job_id}</span>}
              </div>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

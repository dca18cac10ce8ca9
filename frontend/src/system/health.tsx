import { useQuery } from "@tanstack/react-query";
import { CircleAlert, CircleCheck, CircleX } from "lucide-react";
import { healthQuery } from "@/api/queries";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { ErrorNotice } from "@/ui/notices";

const ICONS = { healthy: CircleCheck, degraded: CircleAlert, unhealthy: CircleX } as const;
const COLORS = { healthy: "text-good", degraded: "text-warn", unhealthy: "text-bad" } as const;

/** The health of the service in words, with what to do about each problem. */
export function HealthCard() {
  const text = useText();
  const { data, error, refetch } = useQuery({ ...healthQuery, refetchInterval: 10_000 });
  if (!data)
    return error ? (
      <ErrorNotice error={error} onRetry={() => void refetch()} />
    ) : (
      <div role="status" aria-label={text.common.loading} className="skeleton h-22 rounded-lg" />
    );
  const Icon = ICONS[data.status];
  return (
    <section
      aria-label={text.system.health}
      className="flex min-h-22 items-start gap-4 rounded-lg border bg-surface p-4"
    >
      <Icon aria-hidden className={cx("mt-0.5 size-6 shrink-0", COLORS[data.status])} />
      <div className="flex min-w-0 flex-1 flex-col gap-2">
        <p role="status" className="font-medium">
          {text.system.healthStates[data.status]}
        </p>
        {data.problems.map((problem) => (
          <div key={problem.code} className="text-sm">
            <p>{problem.message}</p>
            <p className="text-muted">{problem.suggestion}</p>
          </div>
        ))}
        <p className="text-sm text-muted tabular">
          {[
            text.system.version(data.system_info.version),
            text.system.uptime(text.common.duration(data.uptime)),
            text.system.activeJobs(data.active_tasks),
          ].join(" · ")}
        </p>
      </div>
    </section>
  );
}

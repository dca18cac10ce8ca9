import { useQuery } from "@tanstack/react-query";
import { healthQuery, statsQuery } from "@/api/queries";
import { useTopic } from "@/live/provider";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { ErrorNotice } from "@/ui/notices";

const WARN_PERCENT = 85;

/** The use of the processor, the memory, the GPUs and the disk, as it is now. */
export function Meters() {
  const text = useText();
  useTopic("system_stats");
  const { data, error, refetch } = useQuery({ ...statsQuery, refetchInterval: 10_000 });
  const info = useQuery(healthQuery).data?.system_info;
  if (error && !data) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!data)
    return (
      <div role="status" aria-label={text.common.loading} className={GRID}>
        {["a", "b", "c", "d"].map((key) => (
          <div key={key} className="skeleton h-28 rounded-lg" />
        ))}
      </div>
    );
  const size = (gigabytes: number) => text.common.size(gigabytes * 1000);
  const free = info?.disk_free_gb ?? null;
  const total = info?.disk_total_gb ?? null;
  return (
    <ul className={GRID} aria-label={text.system.now}>
      <Meter
        name={text.system.cpu}
        percent={data.cpu_percent}
        detail={info ? text.system.cores(info.cpu_cores) : ""}
      />
      <Meter
        name={text.system.ram}
        percent={data.ram_percent}
        detail={text.system.used(size(data.ram_used_gb), size(data.ram_total_gb))}
      />
      {data.gpus.map((gpu) => (
        <Meter
          key={gpu.uuid}
          name={gpu.name}
          percent={gpu.vram_percent}
          detail={[
            text.system.used(text.common.size(gpu.vram_used_mb), text.common.size(gpu.vram_total_mb)),
            gpu.gpu_percent !== null && text.system.busy(Math.round(gpu.gpu_percent)),
            gpu.node,
          ]
            .filter(Boolean)
            .join(" · ")}
        />
      ))}
      {data.gpus.length === 0 && <Meter name={text.system.gpu} percent={null} detail={text.system.noGpu} />}
      {free !== null && total !== null && (
        <Meter
          name={text.system.disk}
          percent={(100 * (total - free)) / total}
          detail={text.system.freeOf(size(free), size(total))}
        />
      )}
    </ul>
  );
}

const GRID = "grid grid-cols-2 gap-4 xl:grid-cols-4";

function Meter({ name, percent, detail }: { name: string; percent: number | null; detail: string }) {
  const isHigh = percent !== null && percent >= WARN_PERCENT;
  return (
    <li className="flex min-h-28 flex-col justify-between gap-2 rounded-lg border bg-surface p-4">
      <p className="truncate text-sm text-muted" title={name}>
        {name}
      </p>
      <p className="text-xl font-semibold tabular">{percent === null ? "–" : `${Math.round(percent)} %`}</p>
      <div className="flex flex-col gap-2">
        {percent !== null && (
          <meter className="sr-only" aria-label={name} min={0} max={100} value={Math.round(percent)} />
        )}
        <div aria-hidden className="h-1 overflow-hidden rounded-full bg-line">
          <div
            className={cx(
              "h-full rounded-full transition-[width] duration-300",
              isHigh ? "bg-warn" : "bg-accent",
            )}
            style={{ width: `${percent ?? 0}%` }}
          />
        </div>
        <p className="text-xs text-muted tabular">{detail}</p>
      </div>
    </li>
  );
}

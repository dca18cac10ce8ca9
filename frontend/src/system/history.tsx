import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { useText } from "@/text";
import { cx } from "@/ui/cx";
import { Choices } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { historyQuery, queueHistoryQuery, RANGES, type Range } from "./queries";
import { Section } from "./section";
import { type Line, summarize } from "./series";

const Chart = lazy(() => import("./chart"));

/** The use of the machine and the queue over time. */
export function HistoryCharts() {
  const text = useText();
  const [range, setRange] = useState<Range>("day");
  const stats = useQuery(historyQuery(range));
  const queue = useQuery(queueHistoryQuery(range));
  const points = stats.data?.points ?? [];
  const waits = queue.data?.points ?? [];
  const times = points.map((point) => seconds(point.timestamp));
  const queueTimes = waits.map((point) => seconds(point.timestamp));
  const percent = (value: number) => `${Math.round(value)} %`;
  const hasGpu = points.some((point) => point.vram_total_mb > 0);
  const machine: Line[] = [
    { name: text.system.cpu, values: points.map((point) => point.cpu_percent), color: "accent" },
    { name: text.system.ram, values: points.map((point) => point.ram_percent), color: "muted" },
  ];
  const gpus: Line[] = [
    { name: text.system.gpuBusy, values: points.map((point) => point.gpu_percent), color: "accent" },
    { name: text.system.gpuMemory, values: points.map((point) => point.vram_percent), color: "muted" },
  ];
  const pending: Line[] = [
    { name: text.system.pending, values: waits.map((point) => point.pending), color: "accent" },
  ];
  const waiting: Line[] = [
    { name: text.system.wait, values: waits.map((point) => point.wait_seconds), color: "accent" },
  ];
  return (
    <Section
      title={text.system.history}
      aside={
        <Choices
          label={text.system.range}
          value={range}
          onChange={setRange}
          options={(Object.keys(RANGES) as Range[]).map((value) => ({
            value,
            label: text.system.ranges[value],
          }))}
        />
      }
    >
      {(stats.error ?? queue.error) && <ErrorNotice error={stats.error ?? queue.error} />}
      <div className={cx("grid gap-4 lg:grid-cols-2", !hasGpu && "xl:grid-cols-3")}>
        <Figure title={text.system.machine} lines={machine} format={percent} isLoading={!stats.data}>
          <Chart
            times={times}
            lines={machine}
            format={percent}
            max={100}
            hours={RANGES[range]}
            gapSeconds={3 * (stats.data?.interval_seconds ?? 60)}
          />
        </Figure>
        {hasGpu && (
          <Figure title={text.system.gpus} lines={gpus} format={percent} isLoading={!stats.data}>
            <Chart
              times={times}
              lines={gpus}
              format={percent}
              max={100}
              hours={RANGES[range]}
              gapSeconds={3 * (stats.data?.interval_seconds ?? 60)}
            />
          </Figure>
        )}
        <Figure
          title={text.system.queueLength}
          lines={pending}
          format={text.system.jobs}
          isLoading={!queue.data}
        >
          <Chart times={queueTimes} lines={pending} format={String} hours={RANGES[range]} isStepped />
        </Figure>
        <Figure
          title={text.system.waits}
          lines={waiting}
          format={text.common.duration}
          isLoading={!queue.data}
        >
          <Chart
            times={queueTimes}
            lines={waiting}
            format={text.system.shortDuration}
            hours={RANGES[range]}
            hasPoints
          />
        </Figure>
      </div>
    </Section>
  );
}

function seconds(timestamp: string): number {
  return Date.parse(timestamp) / 1000;
}

/** A chart with its legend and, in words, what it shows. */
function Figure({
  title,
  lines,
  format,
  isLoading,
  children,
}: {
  title: string;
  lines: readonly Line[];
  format: (value: number) => string;
  isLoading: boolean;
  children: ReactNode;
}) {
  const text = useText();
  const isEmpty = lines.every((line) => line.values.every((value) => value === null));
  return (
    <figure className="flex min-w-0 flex-col gap-3 rounded-lg border bg-surface p-4">
      <p className="text-sm font-medium">{title}</p>
      <div className="h-48">
        {isLoading ? (
          <div role="status" aria-label={text.common.loading} className="skeleton size-full" />
        ) : isEmpty ? (
          <p className="flex size-full items-center justify-center text-sm text-muted">
            {text.system.noData}
          </p>
        ) : (
          <Suspense fallback={<div className="skeleton size-full" />}>{children}</Suspense>
        )}
      </div>
      <figcaption className="flex min-h-5 flex-wrap gap-x-5 gap-y-1 text-xs text-muted tabular">
        {!isLoading &&
          !isEmpty &&
          lines.map((line) => {
            const { average, highest, last } = summarize(line.values);
            return (
              <span key={line.name} className="flex items-center gap-1.5">
                <span
                  aria-hidden
                  className={`h-0.5 w-3 rounded-full ${line.color === "accent" ? "bg-accent" : "bg-muted"}`}
                />
                {line.name}: {text.system.summary(format(last), format(average), format(highest))}
              </span>
            );
          })}
      </figcaption>
    </figure>
  );
}

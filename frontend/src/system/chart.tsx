/** A line chart over time. This module is loaded when the first chart is shown, because uPlot is large. */
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useLanguage } from "@/text";
import { type Line, withGaps } from "./series";
import { useThemeName } from "./theme-name";

const FONT = "12px 'Geist Variable', system-ui, sans-serif";

export default function Chart({
  times,
  lines,
  format,
  hours,
  max,
  gapSeconds = Number.POSITIVE_INFINITY,
  isStepped = false,
  hasPoints = false,
}: {
  /** Seconds since the epoch. */
  times: readonly number[];
  lines: readonly Line[];
  format: (value: number) => string;
  hours: number;
  /** The end of the vertical axis; by default a little above the highest value. */
  max?: number;
  gapSeconds?: number;
  isStepped?: boolean;
  hasPoints?: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const theme = useThemeName();
  const { language } = useLanguage();
  const data = useMemo(() => withGaps(times, lines, gapSeconds), [times, lines, gapSeconds]);
  const latest = useRef({ data, format });
  latest.current = { data, format };
  const colors = lines.map((line) => line.color).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the theme decides what the variables of colors are
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: color("muted"), font: FONT, ticks: { show: false } };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: element.clientHeight,
        legend: { show: false },
        padding: [8, 12, 0, 0],
        cursor: { show: false },
        scales: {
          x: { range: () => [Date.now() / 1000 - hours * 3600, Date.now() / 1000] },
          y: { range: (_, _low, high) => [0, max ?? Math.max(1, high * 1.1)] },
        },
        axes: [
          {
            ...axis,
            size: 28,
            grid: { show: false },
            space: 70,
            values: (_, splits) => splits.map(labels(language, hours)),
          },
          {
            ...axis,
            size: 62,
            space: 36,
            incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400],
            grid: { stroke: color("line"), width: 1 },
            values: (_, splits) => splits.map((value) => latest.current.format(value)),
          },
        ],
        series: [
          {},
          ...colors.split(",").map((name, index) => ({
            stroke: color(name),
            width: index === 0 ? 2 : 1.5,
            points: { show: hasPoints, size: 5, fill: color(name) },
            spanGaps: hasPoints,
            ...(isStepped ? { paths: uPlot.paths.stepped?.({ align: 1 }) as uPlot.Series.PathBuilder } : {}),
          })),
        ],
      },
      latest.current.data as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => {
      made.setSize({ width: element.clientWidth, height: element.clientHeight });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
    };
  }, [theme, language, hours, max, isStepped, hasPoints, colors]);
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);
  return <div ref={box} aria-hidden className="size-full overflow-hidden" />;
}

/** Returns the text of a point on the time axis: the time of day, or the day for a week. */
function labels(language: string, hours: number): (seconds: number) => string {
  const options: Intl.DateTimeFormatOptions =
    hours > 24 ? { weekday: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hour12: false };
  const format = new Intl.DateTimeFormat(language, options);
  return (seconds) => format.format(seconds * 1000);
}

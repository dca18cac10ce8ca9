/** Values over time. */

export type Line = {
  name: string;
  /** One value for each time; null where there is none. */
  values: (number | null)[];
  color: "accent" | "muted";
};

/** Returns the last, the average and the highest value; zeros without one. */
export function summarize(values: readonly (number | null)[]): {
  last: number;
  average: number;
  highest: number;
} {
  const known = values.filter((value) => value !== null);
  const sum = known.reduce((total, value) => total + value, 0);
  return {
    last: known.at(-1) ?? 0,
    average: known.length > 0 ? sum / known.length : 0,
    highest: known.reduce((highest, value) => Math.max(highest, value), 0),
  };
}

/** Inserts a point without values into each gap, so that a chart draws no line across the time of a stop. */
export function withGaps(
  times: readonly number[],
  lines: readonly Line[],
  gapSeconds: number,
): [number[], ...(number | null)[][]] {
  const spread: number[] = [];
  const values: (number | null)[][] = lines.map(() => []);
  times.forEach((time, index) => {
    const before = times[index - 1];
    if (before !== undefined && time - before > gapSeconds) {
      spread.push(before + gapSeconds / 2);
      for (const column of values) column.push(null);
    }
    spread.push(time);
    lines.forEach((line, at) => {
      values[at]?.push(line.values[index] ?? null);
    });
  });
  return [spread, ...values];
}

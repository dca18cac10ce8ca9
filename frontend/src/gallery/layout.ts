/** The grid: rows of one height each, in which every video keeps its own shape. */

export type Row = { from: number; to: number; height: number; widths: number[] };

const MIN_RATIO = 0.45;
const MAX_RATIO = 2.4;

/**
 * Divides videos into rows that fill a width.
 *
 * @param ratios Width of each video divided by its height.
 * @param width Width of the grid in pixels.
 * @param height Height that rows should have, in pixels. They are up to a third higher or lower.
 * @param gap Space between two videos in pixels.
 * @param isComplete Whether no further videos follow. Otherwise the last row waits for them, so that nothing moves.
 */
export function makeRows(
  ratios: readonly number[],
  width: number,
  height: number,
  gap: number,
  isComplete: boolean,
): Row[] {
  const rows: Row[] = [];
  let from = 0;
  let sum = 0;
  for (let index = 0; index < ratios.length; index += 1) {
    const ratio = clamp(ratios[index] ?? 1);
    const count = index - from + 1;
    const space = width - gap * (count - 1);
    sum += ratio;
    if (sum * height < space) continue;
    // The row fits with this video, or better without it.
    const withIt = space / sum;
    const without = count > 1 ? (space + gap) / (sum - ratio) : Number.POSITIVE_INFINITY;
    if (withIt / height < height / without) {
      rows.push(makeRow(ratios, from, index, without));
      from = index;
      sum = ratio;
      if (ratio * height >= width) {
        rows.push(makeRow(ratios, from, index + 1, width / ratio));
        from = index + 1;
        sum = 0;
      }
    } else {
      rows.push(makeRow(ratios, from, index + 1, withIt));
      from = index + 1;
      sum = 0;
    }
  }
  if (isComplete && from < ratios.length) rows.push(makeRow(ratios, from, ratios.length, height));
  return rows;
}

function makeRow(ratios: readonly number[], from: number, to: number, height: number): Row {
  return { from, to, height, widths: ratios.slice(from, to).map((ratio) => clamp(ratio) * height) };
}

function clamp(ratio: number): number {
  return Math.min(MAX_RATIO, Math.max(MIN_RATIO, ratio));
}

/** Returns the index of the video below or above another one, at about the same place; the same index at an edge. */
export function stepRow(rows: readonly Row[], index: number, step: 1 | -1, gap: number): number {
  const at = rows.findIndex((row) => index < row.to);
  const row = rows[at];
  const next = rows[at + step];
  if (!row || !next) return index;
  const center = middleOf(row, index - row.from, gap);
  let best = 0;
  next.widths.forEach((_, position) => {
    const isCloser =
      Math.abs(middleOf(next, position, gap) - center) < Math.abs(middleOf(next, best, gap) - center);
    if (isCloser) best = position;
  });
  return next.from + best;
}

function middleOf(row: Row, position: number, gap: number): number {
  const before = row.widths.slice(0, position).reduce((sum, width) => sum + width + gap, 0);
  return before + (row.widths[position] ?? 0) / 2;
}

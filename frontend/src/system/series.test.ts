import { expect, test } from "vitest";
import { type Line, summarize, withGaps } from "./series";

const line = (values: (number | null)[]): Line => ({ name: "CPU", values, color: "accent" });

test("a summary leaves out what is not known", () => {
  expect(summarize([null, 2, 4, null])).toEqual({ last: 4, average: 3, highest: 4 });
  expect(summarize([null])).toEqual({ last: 0, average: 0, highest: 0 });
});

test("a gap in time gets a point without values", () => {
  const [times, values] = withGaps([0, 60, 600, 660], [line([1, 2, 3, 4])], 180);
  expect(times).toEqual([0, 60, 150, 600, 660]);
  expect(values).toEqual([1, 2, null, 3, 4]);
});

test("without gaps, everything stays as it is", () => {
  expect(withGaps([0, 60], [line([1, null]), line([0, 5])], 180)).toEqual([
    [0, 60],
    [1, null],
    [0, 5],
  ]);
});

import { describe, expect, it } from "vitest";
import type { Task } from "@/api/types";
import { againBody } from "./actions";
import { differing } from "./facts";
import { dayBefore, filtersOf, isFiltered, toQuery } from "./filters";
import { makeRows, stepRow } from "./layout";
import { rangeOf } from "./selection";

const WIDE = 16 / 9;
const TALL = 9 / 16;

describe("the grid", () => {
  const ratios = Array.from({ length: 40 }, (_, index) => [WIDE, 1, TALL][index % 3] ?? 1);

  it("shows each video once, in its own shape, in rows that fill the width", () => {
    const rows = makeRows(ratios, 1000, 200, 8, true);
    expect(rows.flatMap((row) => row.widths)).toHaveLength(ratios.length);
    for (const row of rows.slice(0, -1)) {
      const width = row.widths.reduce((sum, each) => sum + each, 0) + 8 * (row.widths.length - 1);
      expect(width).toBeCloseTo(1000, 3);
      row.widths.forEach((each, index) => {
        expect(each / row.height).toBeCloseTo(ratios[row.from + index] ?? 0, 5);
      });
      expect(row.height).toBeGreaterThan(130);
      expect(row.height).toBeLessThan(300);
    }
  });

  it("does not move a row when further videos arrive", () => {
    const before = makeRows(ratios.slice(0, 20), 1000, 200, 8, false);
    expect(makeRows(ratios, 1000, 200, 8, false).slice(0, before.length)).toEqual(before);
  });

  it("gives a video that is wider than the grid a row of its own", () => {
    const rows = makeRows([TALL, WIDE, WIDE], 200, 200, 8, true);
    for (const row of rows) {
      const width = row.widths.reduce((sum, each) => sum + each, 0) + 8 * (row.widths.length - 1);
      expect(width).toBeLessThanOrEqual(200.001);
    }
  });

  it("steps to the video below, and stays at the edges", () => {
    const rows = makeRows([1, 1, 1, 1, 1, 1], 620, 200, 10, true);
    expect(rows.map((row) => [row.from, row.to])).toEqual([
      [0, 3],
      [3, 6],
    ]);
    expect(stepRow(rows, 1, 1, 10)).toBe(4);
    expect(stepRow(rows, 4, -1, 10)).toBe(1);
    expect(stepRow(rows, 1, -1, 10)).toBe(1);
  });
});

describe("the filters", () => {
  it("are sent as the API names them, and unknown values are left out", () => {
    const search = {
      video: "video_1",
      query: "fox",
      model: "T2V-A14B",
      shape: "round",
      kind: "real",
      order: "oldest",
    };
    expect(toQuery(filtersOf(search))).toEqual({
      query: "fox",
      model_type: "T2V-A14B",
      is_mock: false,
      order: "asc",
    });
    expect(isFiltered(filtersOf({ order: "oldest", video: "x" }))).toBe(false);
    expect(isFiltered(filtersOf({ tag: "sea" }))).toBe(true);
  });

  it("cover whole local days", () => {
    const { completed_from, completed_before } = toQuery({ from: "2026-03-01", to: "2026-03-01" });
    expect(new Date(completed_from ?? "")).toEqual(new Date(2026, 2, 1));
    expect(new Date(completed_before ?? "")).toEqual(new Date(2026, 2, 2));
    expect(dayBefore(1, new Date(2026, 2, 1))).toBe("2026-02-28");
    expect(toQuery({ from: "soon" })).toEqual({});
  });
});

describe("a selection", () => {
  it("covers a range in both directions", () => {
    const list = ["a", "b", "c", "d"];
    expect(rangeOf(list, "b", "d")).toEqual(["b", "c", "d"]);
    expect(rangeOf(list, "c", "a")).toEqual(["a", "b", "c"]);
    expect(rangeOf(list, "gone", "c")).toEqual(["c"]);
  });
});

describe("the settings of videos", () => {
  it("differ where a value differs or is missing", () => {
    const [steps, seed, loras] = ["Steps", "Seed", "LoRAs"];
    const lists = [
      [
        { name: steps, value: "4" },
        { name: seed, value: "1" },
      ],
      [
        { name: steps, value: "4" },
        { name: seed, value: "2" },
        { name: loras, value: "neon" },
      ],
    ];
    expect(differing(lists)).toEqual(new Set([seed, loras]));
  });

  it("are submitted again without the seed", () => {
    const task = { prompt: "a cat", seed: 7, steps: 4, model: "tiny-t2v", image_path: null, segments: [] };
    expect(againBody(task as unknown as Task)).toEqual({ prompt: "a cat", steps: 4, model_type: "tiny-t2v" });
    const parts = [{ prompt: "a dog", num_frames: 5, seed: 3 }];
    const long = againBody({ ...task, num_frames: 9, segments: parts } as unknown as Task);
    expect(long).toEqual({
      steps: 4,
      model_type: "tiny-t2v",
      segments: [{ prompt: "a dog", num_frames: 5 }],
    });
  });
});

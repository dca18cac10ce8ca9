import { expect, test } from "vitest";
import type { Task } from "@/api/types";
import { makeTask } from "@/testing/tasks";
import { groupJobs, moveEntry } from "./entries";

const tasks = new Map<string, Task>();
function make(...changes: Partial<Task>[]) {
  tasks.clear();
  for (const change of changes) tasks.set(change.id as string, makeTask(change));
  return groupJobs([...tasks.keys()], (id) => tasks.get(id));
}
const keys = (entries: readonly { key: string }[]) => entries.map((entry) => entry.key).join("");

test("the neighboring jobs of a batch are one entry, and others are not", () => {
  const entries = make(
    { id: "a", batch_id: "x" },
    { id: "b", batch_id: "x" },
    { id: "c" },
    { id: "d" },
    { id: "e", batch_id: "x" },
    { id: "f", batch_id: "y" },
  );
  expect(entries.map((entry) => entry.ids.join(""))).toEqual(["ab", "c", "d", "e", "f"]);
});

test("a move sends the jobs between the two places only, with whole batches", () => {
  const entries = make(
    { id: "a" },
    { id: "b" },
    { id: "c", batch_id: "x" },
    { id: "d", batch_id: "x" },
    { id: "e" },
  );
  const up = moveEntry(entries, 2, 1);
  expect([up?.ids, keys(up?.entries ?? []), up?.isLimited]).toEqual([["c", "d", "b"], "acbe", false]);
  expect(moveEntry(entries, 0, 2)?.ids).toEqual(["b", "c", "d", "a"]);
  expect(moveEntry(entries, 1, 1)?.ids).toEqual([]);
});

test("an entry stays among the jobs of its priority", () => {
  const entries = make({ id: "a", priority: "high" }, { id: "b" }, { id: "c" }, { id: "d", priority: "low" });
  const up = moveEntry(entries, 2, 0);
  expect([keys(up?.entries ?? []), up?.index, up?.isLimited]).toEqual(["acbd", 1, true]);
  const down = moveEntry(entries, 1, 3);
  expect([keys(down?.entries ?? []), down?.index]).toEqual(["acbd", 2]);
  expect(moveEntry(entries, 3, 0)?.ids).toEqual([]);
});

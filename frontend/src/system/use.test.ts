import { expect, it } from "vitest";
import { sumUse } from "./use";

it("adds up the days of each client, and puts the most GPU time first", () => {
  const day = (client: string, gpu_seconds: number) => ({
    day: "2026-01-01",
    client,
    gpu_seconds,
    uploads: 1,
    upload_bytes: 5,
  });
  expect(sumUse([day("ann", 2), day("bob", 9), day("ann", 3)])).toEqual([
    { client: "bob", gpuSeconds: 9, uploads: 1, uploadBytes: 5 },
    { client: "ann", gpuSeconds: 5, uploads: 2, uploadBytes: 10 },
  ]);
});

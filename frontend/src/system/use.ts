import type { components } from "@/api/schema";

type Day = components["schemas"]["UseOfDay"];
export type Use = { client: string; gpuSeconds: number; uploads: number; uploadBytes: number };

/** Adds up the days of each client. The clients with the most GPU time come first. */
export function sumUse(days: readonly Day[]): Use[] {
  const sums = new Map<string, Use>();
  for (const day of days) {
    const sum = sums.get(day.client) ?? { client: day.client, gpuSeconds: 0, uploads: 0, uploadBytes: 0 };
    sum.gpuSeconds += day.gpu_seconds;
    sum.uploads += day.uploads;
    sum.uploadBytes += day.upload_bytes;
    sums.set(day.client, sum);
  }
  return [...sums.values()].sort((a, b) => b.gpuSeconds - a.gpuSeconds);
}

/** Queries of the System page. */
import { queryOptions } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { sumUse } from "./use";

export const RANGES = { hour: 1, day: 24, week: 168 } as const;
export type Range = keyof typeof RANGES;

export function historyQuery(range: Range) {
  const query = { hours: RANGES[range] };
  return queryOptions({
    queryKey: ["history", range],
    queryFn: ({ signal }) => data(api.GET("/api/v1/system/stats/history", { params: { query }, signal })),
    refetchInterval: 60_000,
  });
}

export function queueHistoryQuery(range: Range) {
  const query = { hours: RANGES[range] };
  return queryOptions({
    queryKey: ["queue-history", range],
    queryFn: ({ signal }) => data(api.GET("/api/v1/system/queue/history", { params: { query }, signal })),
    refetchInterval: 60_000,
  });
}

export const replicasQuery = queryOptions({
  queryKey: ["replicas"],
  queryFn: async ({ signal }) => (await data(api.GET("/api/v1/models/summary", { signal }))).replicas,
  refetchInterval: 5_000,
});

export const dashboardQuery = queryOptions({
  queryKey: ["dashboard"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/system/dashboard", { signal })),
});

export const optimizationQuery = queryOptions({
  queryKey: ["optimization"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/system/optimization", { signal })),
});

export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: async ({ signal }) => (await data(api.GET("/api/v1/keys", { signal }))).keys,
});

export const webhooksQuery = queryOptions({
  queryKey: ["webhooks"],
  queryFn: async ({ signal }) =>
    (await data(api.GET("/api/v1/webhooks", { params: { query: { limit: 10 } }, signal }))).webhooks,
});

export const DAYS_OF_USE = 7;

/** The use of each client over the last days together, with the most GPU time first. */
export const usageQuery = queryOptions({
  queryKey: ["usage"],
  queryFn: async ({ signal }) => {
    const { days } = await data(
      api.GET("/api/v1/usage", { params: { query: { days: DAYS_OF_USE } }, signal }),
    );
    return sumUse(days);
  },
  refetchInterval: 60_000,
});

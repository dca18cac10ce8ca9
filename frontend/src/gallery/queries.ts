/** Queries of the gallery. */
import {
  type InfiniteData,
  infiniteQueryOptions,
  keepPreviousData,
  type QueryClient,
  queryOptions,
} from "@tanstack/react-query";
import { api, data } from "@/api/client";
import type { OutputsPage, Video } from "@/api/types";
import { type Filters, toQuery } from "./filters";

const PAGE_SIZE = 250;

/** The videos that meet the conditions, page by page. */
export function videosQuery(filters: Filters) {
  return infiniteQueryOptions({
    queryKey: ["outputs", "list", filters],
    queryFn: ({ pageParam, signal }) => {
      const query = { ...toQuery(filters), limit: PAGE_SIZE, ...(pageParam ? { after: pageParam } : {}) };
      return data(api.GET("/api/v1/outputs", { params: { query }, signal }));
    },
    initialPageParam: "",
    getNextPageParam: ({ videos }) => (videos.length < PAGE_SIZE ? undefined : videos.at(-1)?.id),
    placeholderData: keepPreviousData,
  });
}

/** One video. */
export function videoQuery(id: string) {
  return queryOptions({
    queryKey: ["output", id],
    queryFn: ({ signal }) =>
      data(api.GET("/api/v1/outputs/{video_id}", { params: { path: { video_id: id } }, signal })),
  });
}

/** All tags, with the number of videos that have each. */
export const tagsQuery = queryOptions({
  queryKey: ["outputs", "tags"],
  queryFn: async ({ signal }) => (await data(api.GET("/api/v1/outputs/tags", { signal }))).tags,
});

/** Changes videos in everything that was read; null takes a video out of the lists. */
export function changeVideos(
  client: QueryClient,
  ids: ReadonlySet<string>,
  change: (video: Video) => Video | null,
): void {
  client.setQueriesData<InfiniteData<OutputsPage>>({ queryKey: ["outputs", "list"] }, (list) => {
    if (!list) return list;
    let removed = 0;
    const pages = list.pages.map((page) => {
      if (!page.videos.some((video) => ids.has(video.id))) return page;
      const videos = page.videos.flatMap((video) => {
        const changed = ids.has(video.id) ? change(video) : video;
        return changed ?? [];
      });
      removed += page.videos.length - videos.length;
      return { ...page, videos };
    });
    const less = (page: OutputsPage) => ({ ...page, total_count: page.total_count - removed });
    return { ...list, pages: removed ? pages.map(less) : pages };
  });
  for (const id of ids) {
    client.setQueryData(videoQuery(id).queryKey, (video) => (video && change(video)) ?? video);
  }
}

/** Actions on videos. The lists change at once; a failure takes the change back and is shown. */
import { useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, data } from "@/api/client";
import { taskQuery } from "@/api/queries";
import type { Task, Video } from "@/api/types";
import { useText } from "@/text";
import { useFailureToast, useToast } from "@/ui/toaster";
import type { Filters } from "./filters";
import { changeVideos } from "./queries";

/** Time for which the service can undo a deletion: longer than the message with the button is shown. */
const UNDO_SECONDS = 600;
const UNDO_SHOWN_MS = 20_000;
const AT_ONCE = 4;

type Marks = { favorite?: boolean; tags?: string[] };

export function useVideoActions() {
  const client = useQueryClient();
  const text = useText();
  const toast = useToast();
  const fail = useFailureToast();
  return useMemo(() => {
    /** Writes favorites or tags; `marks` gives the change of each video. */
    const mark = async (videos: readonly Video[], marks: (video: Video) => Marks) => {
      const before = new Map(videos.map((video) => [video.id, video]));
      changeVideos(client, new Set(before.keys()), (video) => ({ ...video, ...marks(video) }));
      const failed = await forEach(videos, (video) =>
        data(
          api.PATCH("/api/v1/outputs/{video_id}", {
            params: { path: { video_id: video.id } },
            body: marks(video),
          }),
        ),
      );
      changeVideos(client, new Set(failed.map(({ item }) => item.id)), (video) => {
        const { favorite, tags } = before.get(video.id) ?? video;
        return { ...video, favorite, tags };
      });
      if (failed[0]) fail(failed[0].error);
      void client.invalidateQueries({ queryKey: ["outputs", "tags"] });
      void client.invalidateQueries({
        queryKey: ["outputs", "list"],
        predicate: ({ queryKey }) => {
          const filters = queryKey[2] as Filters;
          return Boolean(filters.favorite || filters.tag);
        },
      });
    };

    const restore = async (ids: readonly string[]) => {
      const failed = await forEach(ids, (id) =>
        data(api.POST("/api/v1/outputs/{video_id}/restore", { params: { path: { video_id: id } } })),
      );
      if (failed[0]) fail(failed[0].error);
      await client.invalidateQueries({ queryKey: ["outputs"] });
    };

    /** Deletes videos, and offers to undo that. The service waits with the deletion, also if the page is closed. */
    const remove = async (ids: readonly string[]) => {
      const failed = await forEach(ids, (id) =>
        data(
          api.DELETE("/api/v1/outputs/{video_id}", {
            params: { path: { video_id: id }, query: { undo_seconds: UNDO_SECONDS } },
          }),
        ),
      );
      const kept = new Set(failed.map(({ item }) => item));
      const gone = ids.filter((id) => !kept.has(id));
      changeVideos(client, new Set(gone), () => null);
      if (failed[0]) fail(failed[0].error);
      if (gone.length === 0) return;
      void client.invalidateQueries({ queryKey: ["outputs", "tags"] });
      toast({
        title: text.gallery.deleted(gone.length),
        action: { label: text.common.undo, run: () => void restore(gone) },
        ms: UNDO_SHOWN_MS,
      });
    };

    /** Submits a job with the settings and the inputs of another one, and a seed of its own. */
    const again = async (id: string) => {
      try {
        const task = await client.ensureQueryData(taskQuery(id));
        await data(api.POST("/api/v1/generation/submit", { body: againBody(task) as never }));
        toast({ title: text.gallery.submitted, tone: "good" });
        await client.invalidateQueries({ queryKey: ["queue"] });
      } catch (error) {
        fail(error);
      }
    };
    return { mark, remove, again };
  }, [client, text, toast, fail]);
}

const KEPT = [
  "prompt",
  "negative_prompt",
  "resolution",
  "num_frames",
  "fps",
  "steps",
  "guidance_scale",
  "guidance_scale_2",
  "flow_shift",
  "boundary_ratio",
  "scheduler",
  "step_cache",
  "quantization_level",
  "enable_offload",
  "vae_tile_size",
  "max_vram_usage_gb",
  "image_path",
  "end_image_path",
  "video_path",
  "strength",
  "loras",
] as const satisfies readonly (keyof Task)[];

/** Returns the submission of a job like another one, without its seed. */
export function againBody(task: Task): Record<string, unknown> {
  const kept = KEPT.filter((name) => task[name] !== null).map((name) => [name, task[name]]);
  const segments = task.segments.map(({ prompt, num_frames }) => ({ prompt, num_frames }));
  const body = { ...Object.fromEntries(kept), model_type: task.model };
  if (segments.length === 0) return body;
  const { prompt: _, num_frames: __, ...rest } = body as Record<string, unknown>;
  return { ...rest, segments };
}

async function forEach<T>(items: readonly T[], run: (item: T) => Promise<unknown>) {
  const failed: { item: T; error: unknown }[] = [];
  const left = [...items];
  const work = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) {
      try {
        await run(item);
      } catch (error) {
        failed.push({ item, error });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return failed;
}

/** Fills the form from a job: its settings, a continuation of its video, or a change of it. */
import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import type { UseFormReturn } from "react-hook-form";
import { modelsQuery, taskQuery } from "@/api/queries";
import type { Model, Task } from "@/api/types";
import { lastFrameAddress, uploadAddress } from "@/jobs/addresses";
import type { CreateSearch } from "@/router";
import { useFailureToast } from "@/ui/toaster";
import { AUTO, EMPTY_FORM, type FormValues, type Input, newSegment } from "./form";

/** Applies the address's search once, and removes it from the address, so that a reload keeps later changes. */
export function useSource(search: CreateSearch, form: UseFormReturn<FormValues>): void {
  const client = useQueryClient();
  const navigate = useNavigate();
  const fail = useFailureToast();
  const { from, continue: continued, edit } = search;
  useEffect(() => {
    const id = from ?? continued ?? edit;
    if (!id) return;
    let isCurrent = true;
    read(client, id)
      .then((source) => {
        if (!isCurrent) return;
        const { task } = source;
        form.reset(from ? toForm(source) : continued ? toContinuation(task) : toEdit(task));
      })
      .catch(fail)
      .finally(() => isCurrent && void navigate({ to: "/", search: {}, replace: true }));
    return () => {
      isCurrent = false;
    };
  }, [from, continued, edit, client, form, navigate, fail]);
}

type Source = { task: Task; models: readonly Model[]; beginsWithVideo: boolean };

async function read(client: QueryClient, id: string): Promise<Source> {
  const [task, models] = await Promise.all([
    client.fetchQuery(taskQuery(id)),
    client.ensureQueryData(modelsQuery),
  ]);
  return { task, models, beginsWithVideo: task.image_path !== null && (await isVideo(task.image_path)) };
}

/** Returns whether an input is a video, whose last frame begins the new one. The ids do not tell. */
async function isVideo(id: string): Promise<boolean> {
  const response = await fetch(uploadAddress(id), { method: "HEAD", credentials: "same-origin" });
  return response.headers.get("content-type") === "video/mp4";
}

/** Returns the form that made a job. Values that equal the model's own are left to the model. */
export function toForm({ task, models, beginsWithVideo }: Source): FormValues {
  const model = models.find((item) => item.id === task.model);
  const unlessOwn = <T>(value: T, own: T | undefined): T | null => (value === own ? null : value);
  const asInput = (id: string | null, kind: Input["kind"] = "image"): Input | null =>
    id
      ? {
          id,
          kind,
          width: task.width,
          height: task.height,
          numFrames: null,
          picture: uploadAddress(id),
        }
      : null;
  return {
    ...EMPTY_FORM,
    isStoryboard: task.segments.length > 0,
    prompt: task.segments.length > 0 ? "" : task.prompt,
    segments: task.segments.map((part) => newSegment(part.prompt, part.num_frames ?? null)),
    negativePrompt: unlessOwn(task.negative_prompt, model?.negative_prompt),
    model: model ? model.id : AUTO,
    firstFrame: asInput(task.image_path, beginsWithVideo ? "video" : "image"),
    lastFrame: asInput(task.end_image_path),
    video: asInput(task.video_path, "video"),
    strength: task.strength ?? EMPTY_FORM.strength,
    size: unlessOwn(task.resolution, task.image_path || task.video_path ? undefined : model?.size),
    numFrames: task.segments.length > 0 ? null : unlessOwn(task.num_frames, model?.num_frames),
    steps: unlessOwn(task.steps, model?.steps),
    guidance: unlessOwn(task.guidance_scale, model?.guidance_scale),
    guidance2: unlessOwn(task.guidance_scale_2, model?.guidance_scale_2),
    flowShift: unlessOwn(task.flow_shift, model?.flow_shift),
    fps: unlessOwn(task.fps, model?.fps),
    seed: task.seed,
    loras: task.loras.map((use) => ({
      name: use.name,
      strength: use.strength,
      strength2: use.strength_2 ?? null,
    })),
  };
}

function toContinuation(task: Task): FormValues {
  const picture = lastFrameAddress(task.id);
  const { width, height } = task;
  return {
    ...EMPTY_FORM,
    prompt: task.prompt,
    firstFrame: { id: task.id, kind: "video", width, height, numFrames: task.num_frames, picture },
  };
}

function toEdit(task: Task): FormValues {
  const picture = lastFrameAddress(task.id);
  const { width, height } = task;
  return {
    ...EMPTY_FORM,
    prompt: task.prompt,
    video: { id: task.id, kind: "video", width, height, numFrames: task.num_frames, picture },
  };
}

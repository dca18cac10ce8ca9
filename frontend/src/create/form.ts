/** The form of a video: its values, their limits, and the request that they make. */
import { z } from "zod";
import type { paths } from "@/api/schema";
import type { Model } from "@/api/types";

export const PROMPT_LIMIT = 2000;
export const TOKEN_LIMIT = 512;

/** An image or a video that a new video starts from. */
const input = z.object({
  /** Id by which the service knows it: of an upload, or of a job whose video it is. */
  id: z.string(),
  kind: z.enum(["image", "video"]),
  width: z.number(),
  height: z.number(),
  numFrames: z.number().nullable(),
  /** Address of a picture of it. */
  picture: z.string(),
});
export type Input = z.infer<typeof input>;

const lora = z.object({ name: z.string(), strength: z.number(), strength2: z.number().nullable() });
const segment = z.object({
  key: z.string(),
  prompt: z.string().max(PROMPT_LIMIT),
  numFrames: z.number().nullable(),
});

/** Null stands for the model's own value, or for none. */
export const formSchema = z.object({
  isStoryboard: z.boolean(),
  prompt: z.string().max(PROMPT_LIMIT),
  negativePrompt: z.string().max(PROMPT_LIMIT).nullable(),
  model: z.string(),
  firstFrame: input.nullable(),
  lastFrame: input.nullable(),
  video: input.nullable(),
  strength: z.number(),
  size: z.string().nullable(),
  numFrames: z.number().nullable(),
  preset: z.string().nullable(),
  steps: z.number().int().min(1).max(100).nullable(),
  guidance: z.number().min(0).max(100).nullable(),
  guidance2: z.number().min(0).max(100).nullable(),
  flowShift: z.number().min(0.01).max(100).nullable(),
  fps: z.number().min(1).max(120).nullable(),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).nullable(),
  variations: z.number().int().min(1).max(8),
  priority: z.enum(["low", "normal", "high"]),
  loras: z.array(lora),
  segments: z.array(segment),
});
export type FormValues = z.infer<typeof formSchema>;
export type LoraUse = FormValues["loras"][number];
export type Segment = FormValues["segments"][number];

export const AUTO = "auto";
export const EMPTY_FORM: FormValues = {
  isStoryboard: false,
  prompt: "",
  negativePrompt: null,
  model: AUTO,
  firstFrame: null,
  lastFrame: null,
  video: null,
  strength: 0.5,
  size: null,
  numFrames: null,
  preset: null,
  steps: null,
  guidance: null,
  guidance2: null,
  flowShift: null,
  fps: null,
  seed: null,
  variations: 1,
  priority: "normal",
  loras: [],
  segments: [],
};

/** Returns a new part of a storyboard. Its key only tells the parts apart. */
export function newSegment(prompt = "", numFrames: number | null = null): Segment {
  return { key: randomId(), prompt, numFrames };
}

/** Returns 128 random bits. `crypto.randomUUID` exists on https and localhost only. */
export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}

export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}

export type SubmitBody =
  paths["/api/v1/generation/submit"]["post"]["requestBody"]["content"]["application/json"];

/** Returns what the service gets. Values that the model does not take, or that are its own, are left out. */
export function toRequest(values: FormValues, model: Model): Partial<SubmitBody> {
  const isEdit = values.video !== null;
  const storyboard = values.isStoryboard && model.image !== "none" && !isEdit;
  return compact({
    model_type: model.id,
    ...(storyboard
      ? {
          segments: values.segments.map((part) =>
            compact({ prompt: part.prompt.trim(), num_frames: part.numFrames }),
          ),
        }
      : { prompt: values.prompt.trim() }),
    negative_prompt: values.negativePrompt,
    image_path: isEdit || model.image === "none" ? null : values.firstFrame?.id,
    end_image_path: isEdit || storyboard || !model.end_image ? null : values.lastFrame?.id,
    video_path: model.video ? values.video?.id : null,
    strength: isEdit ? values.strength : null,
    resolution: values.size,
    num_frames: values.numFrames,
    preset: values.preset,
    steps: values.steps,
    guidance_scale: values.guidance,
    guidance_scale_2: model.guidance_scale_2 === null ? null : values.guidance2,
    flow_shift: values.flowShift,
    fps: values.fps,
    seed: values.seed,
    num_outputs: values.variations === 1 ? null : values.variations,
    priority: values.priority === "normal" ? null : values.priority,
    loras: values.loras.length
      ? values.loras.map((use) =>
          compact({ name: use.name, strength: use.strength, strength_2: use.strength2 }),
        )
      : null,
  }) as Partial<SubmitBody>;
}

/** Whether the form can be submitted: what the service would reject for being empty. */
export function isComplete(values: FormValues, model: Model): boolean {
  if (model.image === "required" && !values.firstFrame) return false;
  if (values.isStoryboard && !values.video && model.image !== "none") {
    return values.segments.length >= 2 && values.segments.every((part) => part.prompt.trim() !== "");
  }
  return values.prompt.trim() !== "";
}

function compact(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== null && value !== undefined),
  );
}

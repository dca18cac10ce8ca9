/** The model that suits the inputs, and what it can make. */
import type { Model } from "@/api/types";
import { AUTO, type FormValues } from "./form";

type Inputs = Pick<FormValues, "model" | "firstFrame" | "lastFrame" | "video" | "isStoryboard">;

/** Returns whether a model takes the inputs. */
export function accepts(model: Model, { firstFrame, lastFrame, video, isStoryboard }: Inputs): boolean {
  if (video) return model.video;
  if (isStoryboard && model.image === "none") return false;
  if (lastFrame && !model.end_image) return false;
  if (firstFrame) return model.image !== "none";
  return model.image !== "required";
}

/** Returns the chosen model, or the best one for the inputs: of models that fit, one that is made for them. */
export function chooseModel(models: readonly Model[], inputs: Inputs): Model | undefined {
  if (inputs.model !== AUTO) return models.find((model) => model.id === inputs.model);
  const fitting = models.filter((model) => accepts(model, inputs));
  const wantsImage = inputs.firstFrame !== null || inputs.lastFrame !== null;
  const preferred = wantsImage && !inputs.video ? "required" : "none";
  return fitting.find((model) => model.image === preferred) ?? fitting[0] ?? models[0];
}

export type Shape = "landscape" | "square" | "portrait";
export type Size = { name: string; width: number; height: number; shape: Shape };

export function parseSize(name: string): Size {
  const [width = 1, height = 1] = name.split("x").map(Number);
  return {
    name,
    width,
    height,
    shape: width > height ? "landscape" : width < height ? "portrait" : "square",
  };
}

/** Numbers of frames that a model can make: 4k+1, from 5. */
export function frameLimits(model: Model): { min: number; max: number } {
  return { min: 5, max: model.max_frames - ((model.max_frames - 1) % 4) };
}

/** Estimates the tokens of a prompt: one for four letters, and three for four characters of East Asian scripts. */
export function estimateTokens(prompt: string): number {
  const wide = prompt.match(/[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]/g)?.length ?? 0;
  return Math.ceil(wide * 0.75 + (prompt.length - wide) / 4);
}

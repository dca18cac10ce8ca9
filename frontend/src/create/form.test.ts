import { describe, expect, it } from "vitest";
import type { Model } from "@/api/types";
import { EMPTY_FORM, type FormValues, formSchema, isComplete, newSegment, toRequest } from "./form";
import { accepts, chooseModel, estimateTokens, frameLimits } from "./models";

const model = (changes: Partial<Model>): Model =>
  ({
    id: "t2v",
    image: "none",
    end_image: false,
    video: true,
    size: "96x96",
    sizes: ["96x96"],
    num_frames: 17,
    max_frames: 160,
    fps: 16,
    steps: 16,
    guidance_scale: 4,
    guidance_scale_2: 4,
    ...changes,
  }) as Model;
const t2v = model({});
const i2v = model({ id: "i2v", image: "required", end_image: true, video: false });
const ti2v = model({ id: "ti2v", image: "optional", guidance_scale_2: null });
const all = [t2v, i2v, ti2v];
const picture = { id: "up1", kind: "image" as const, width: 9, height: 9, numFrames: null, picture: "/p" };
const form = (changes: Partial<FormValues>): FormValues => ({ ...EMPTY_FORM, prompt: " a fox ", ...changes });

describe("the request of a form", () => {
  it("leaves to the model what the user has not set", () => {
    expect(toRequest(form({}), t2v)).toEqual({ model_type: "t2v", prompt: "a fox" });
  });

  it("leaves out inputs that the model does not take", () => {
    const values = form({ firstFrame: picture, lastFrame: picture, guidance2: 3 });
    expect(toRequest(values, t2v)).not.toHaveProperty("image_path");
    expect(toRequest(values, i2v)).toMatchObject({
      image_path: "up1",
      end_image_path: "up1",
      guidance_scale_2: 3,
    });
    expect(toRequest(values, ti2v)).not.toHaveProperty("end_image_path");
    expect(toRequest(values, ti2v)).not.toHaveProperty("guidance_scale_2");
  });

  it("replaces the prompt by the parts of a storyboard", () => {
    const values = form({ isStoryboard: true, segments: [newSegment("one"), newSegment(" two ", 9)] });
    expect(toRequest(values, ti2v)).toEqual({
      model_type: "ti2v",
      segments: [{ prompt: "one" }, { prompt: "two", num_frames: 9 }],
    });
  });

  it("changes a video instead of beginning with a picture", () => {
    const values = form({ video: { ...picture, kind: "video" }, firstFrame: picture, strength: 0.3 });
    expect(toRequest(values, t2v)).toEqual({
      model_type: "t2v",
      prompt: "a fox",
      video_path: "up1",
      strength: 0.3,
    });
  });

  it("asks for several videos and for LoRAs with a strength for each expert", () => {
    const loras = [{ name: "neon", strength: 0.5, strength2: 1.5 }];
    expect(toRequest(form({ variations: 3, loras, seed: 0, priority: "high" }), t2v)).toMatchObject({
      num_outputs: 3,
      seed: 0,
      priority: "high",
      loras: [{ name: "neon", strength: 0.5, strength_2: 1.5 }],
    });
  });
});

describe("a form", () => {
  it("is complete with what its model needs", () => {
    expect(isComplete(form({}), t2v)).toBe(true);
    expect(isComplete(form({ prompt: "  " }), t2v)).toBe(false);
    expect(isComplete(form({}), i2v)).toBe(false);
    expect(isComplete(form({ firstFrame: picture }), i2v)).toBe(true);
    expect(
      isComplete(form({ isStoryboard: true, segments: [newSegment("one"), newSegment("")] }), ti2v),
    ).toBe(false);
  });

  it("survives being stored", () => {
    const values = form({ firstFrame: picture, segments: [newSegment("one")], seed: 5 });
    expect(formSchema.parse(JSON.parse(JSON.stringify(values)))).toEqual(values);
  });
});

describe("the automatic choice of a model", () => {
  const choose = (changes: Partial<FormValues>) => chooseModel(all, form(changes))?.id;

  it("follows the inputs", () => {
    expect(choose({})).toBe("t2v");
    expect(choose({ firstFrame: picture })).toBe("i2v");
    expect(choose({ firstFrame: picture, lastFrame: picture })).toBe("i2v");
    expect(choose({ video: picture })).toBe("t2v");
    expect(choose({ isStoryboard: true })).toBe("ti2v");
  });

  it("yields to the user's choice, which may not fit", () => {
    expect(choose({ model: "ti2v", firstFrame: picture })).toBe("ti2v");
    expect(accepts(t2v, form({ firstFrame: picture }))).toBe(false);
    expect(accepts(i2v, form({}))).toBe(false);
  });
});

it("offers only numbers of frames that a model makes", () => {
  expect(frameLimits(t2v)).toEqual({ min: 5, max: 157 });
  expect(frameLimits(model({ max_frames: 81 }))).toEqual({ min: 5, max: 81 });
});

it("counts more tokens for East Asian text", () => {
  expect(estimateTokens("a red fox runs in the snow")).toBeLessThan(10);
  expect(estimateTokens("一只红色的狐狸在雪地里奔跑")).toBeGreaterThan(8);
});

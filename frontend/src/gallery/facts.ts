/** The settings of a video in words. */
import type { Task, Video } from "@/api/types";
import type { Text } from "@/text/en";

export type Fact = { name: string; value: string };

/** Returns the settings that a user chose, each with its name. */
export function settingsOf(text: Text, language: string, task: Task): Fact[] {
  const { facts } = text.gallery;
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 3 });
  const show = (value: number) => number.format(value);
  const seconds = (task.num_frames / task.fps).toFixed(1);
  const loras = task.loras.map((lora) =>
    text.gallery.loraValue(lora.name, lora.strength, lora.strength_2 ?? lora.strength),
  );
  return [
    fact(facts.model, `${task.model} · ${text.gallery.modelTypes[task.model_type] ?? task.model_type}`),
    fact(facts.size, `${task.width} × ${task.height}`),
    fact(facts.length, text.gallery.lengthValue(seconds, task.num_frames, task.fps)),
    fact(facts.steps, show(task.steps)),
    fact(facts.guidance, show(task.guidance_scale)),
    fact(facts.guidance2, task.guidance_scale_2 === null ? null : show(task.guidance_scale_2)),
    fact(facts.flowShift, show(task.flow_shift)),
    fact(facts.boundary, task.boundary_ratio === null ? null : show(task.boundary_ratio)),
    fact(facts.sampler, task.scheduler),
    fact(facts.strength, task.strength === null ? null : show(task.strength)),
    fact(facts.loras, loras.join(", ")),
    fact(facts.quantization, inWords(text, task.quantization_level)),
    fact(facts.stepCache, inWords(text, task.step_cache)),
    fact(facts.kind, task.is_mock ? text.task.mock : null),
  ].filter((found) => found !== null);
}

/** Returns when and how a video was made. */
export function makingOf(text: Text, language: string, video: Video, task: Task | undefined): Fact[] {
  const { facts } = text.gallery;
  const created = new Date(video.created_at);
  const date = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const result = (task?.result ?? {}) as Record<string, unknown>;
  const memory = result.peak_vram_usage_mb;
  const applied = Array.isArray(result.optimizations_applied) ? result.optimizations_applied : [];
  return [
    fact(facts.created, date.format(created)),
    fact(facts.time, text.common.duration(video.generation_time_minutes * 60)),
    fact(facts.fileSize, text.common.size(video.file_size_mb)),
    fact(facts.memory, typeof memory === "number" && memory > 0 ? text.common.size(memory) : null),
    fact(facts.optimizations, applied.map((name) => String(name).replaceAll("_", " ")).join(", ")),
    fact(facts.offload, result.offload_used === true ? text.common.on : null),
  ].filter((found) => found !== null);
}

/** Returns the names of the facts that are not the same in all lists. */
export function differing(lists: readonly (readonly Fact[])[]): Set<string> {
  const names = new Set(lists.flatMap((list) => list.map(({ name }) => name)));
  const values = (name: string) =>
    new Set(lists.map((list) => list.find((found) => found.name === name)?.value));
  return new Set([...names].filter((name) => values(name).size > 1));
}

function fact(name: string, value: string | null | undefined): Fact | null {
  return value ? { name, value } : null;
}

function inWords(text: Text, mode: string): string | null {
  if (mode === "none") return null;
  return mode === "auto" ? text.gallery.automatic : mode;
}

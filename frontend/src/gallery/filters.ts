/** The conditions on the list of videos, as the address of the page holds them. */
import type { GallerySearch } from "@/router";

export type Filters = Omit<GallerySearch, "video" | "compare">;

const NAMES = ["query", "model", "shape", "kind", "favorite", "tag", "from", "to", "order"] as const;

/** Returns the conditions in a search, without those that are not set. */
export function filtersOf(search: GallerySearch): Filters {
  return Object.fromEntries(NAMES.filter((name) => search[name]).map((name) => [name, search[name]]));
}

/** Returns whether any condition leaves out videos. */
export function isFiltered(filters: Filters): boolean {
  return NAMES.some((name) => name !== "order" && filters[name]);
}

/** Returns the query of the API for the conditions. */
export function toQuery(filters: Filters) {
  const { query, model, shape, kind, favorite, tag, order } = filters;
  const [first, end] = [startOf(filters.from), startOf(filters.to, 1)];
  return {
    ...(query ? { query: query.slice(0, 200) } : {}),
    ...(isOneOf(model, MODEL_TYPES) ? { model_type: model } : {}),
    ...(isOneOf(shape, SHAPES) ? { shape } : {}),
    ...(kind ? { is_mock: kind === "placeholder" } : {}),
    ...(favorite ? { favorite: true } : {}),
    ...(tag ? { tag } : {}),
    ...(first ? { completed_from: first } : {}),
    ...(end ? { completed_before: end } : {}),
    ...(order === "oldest" ? { order: "asc" as const } : {}),
  };
}

export const MODEL_TYPES = ["T2V-A14B", "I2V-A14B", "TI2V-5B"] as const;
export const SHAPES = ["landscape", "portrait", "square"] as const;

function isOneOf<T extends string>(value: string | undefined, known: readonly T[]): value is T {
  return known.includes(value as T);
}

/** Returns the beginning of a local day `YYYY-MM-DD`, or of a day after it, as an instant. */
function startOf(day: string | undefined, later = 0): string | undefined {
  const [year, month, date] = (day ?? "").split("-").map(Number);
  if (!year || !month || !date) return undefined;
  return new Date(year, month - 1, date + later).toISOString();
}

/** Returns the local day that was some days ago, as `YYYY-MM-DD`. */
export function dayBefore(days: number, now = new Date()): string {
  const day = new Date(now.getFullYear(), now.getMonth(), now.getDate() - days);
  const parts = [day.getFullYear(), day.getMonth() + 1, day.getDate()];
  return parts.map((part) => String(part).padStart(2, "0")).join("-");
}

/** Values that this browser stores for the page. Storage may be blocked or full: then nothing is remembered. */

export const DRAFT = "draft";
export const SUBMITTED = "submitted";
/** Names of values that another user of the browser must not see. */
export const PRIVATE = [DRAFT, SUBMITTED] as const;

export function recall<T>(name: string): T | null {
  try {
    const text = localStorage.getItem(name);
    return text === null ? null : parse<T>(text);
  } catch {
    return null;
  }
}

export function remember(name: string, value: unknown): void {
  try {
    if (value === null || value === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, typeof value === "string" ? value : JSON.stringify(value));
  } catch {
    // Nothing is remembered.
  }
}

function parse<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch {
    return text as T;
  }
}

/** The client of the service's HTTP API, with the types of its OpenAPI document. */
import createClient, { type Middleware } from "openapi-fetch";
import { ApiError, toApiError } from "./errors";
import type { paths } from "./schema";

/** Address of the service, which may be below a path prefix. Routes of the page are in the URL's fragment. */
export const BASE = new URL(".", location.href).href.replace(/\/$/, "");

/** Resolves a path of the API, such as `/api/v1/queue`, as the page's own address. */
export function addressOf(path: string): string {
  return BASE + path;
}

type Listener = () => void;
const signedOut = new Set<Listener>();

/** Calls `listener` when the service responds that it needs a key, or that the key has ended. */
export function onSignedOut(listener: Listener): () => void {
  signedOut.add(listener);
  return () => signedOut.delete(listener);
}

const failures: Middleware = {
  async onResponse({ response }) {
    if (response.ok || response.status === 304) return undefined;
    if (response.status === 401) for (const listener of signedOut) listener();
    throw await toApiError(response);
  },
  onError({ error }) {
    return toUnreachable(error);
  },
};

function toUnreachable(error: unknown): Error {
  if (error instanceof DOMException && error.name === "AbortError") return error;
  return new ServiceUnreachable(error);
}

/** The service did not respond at all. */
export class ServiceUnreachable extends Error {
  constructor(cause: unknown) {
    super("The service does not respond.", { cause });
    this.name = "ServiceUnreachable";
  }
}

/** Returns whether an error means that the service is away, so that what the page shows may be out of date. */
export function isUnavailable(error: unknown): boolean {
  return error instanceof ServiceUnreachable || (error instanceof ApiError && error.status >= 500);
}

export const api = createClient<paths>({ baseUrl: BASE, credentials: "same-origin" });
api.use(failures);

/** Awaits a call of `api` and returns its data. The middleware has thrown an `ApiError` for every other response. */
export async function data<T>(call: Promise<{ data?: T | undefined }>): Promise<T> {
  return (await call).data as T;
}

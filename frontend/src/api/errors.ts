/** Errors of the API, with what the service says about the cause and the cure. */
import type { components } from "./schema";

type ErrorBody = components["schemas"]["Error"]["error"];

/** An error response. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly param: string | null;
  readonly suggestions: readonly string[];
  readonly canRetry: boolean;
  /** Seconds after which the service accepts the request again; null if it does not say. */
  readonly retryAfter: number | null;

  constructor(status: number, body: ErrorBody, retryAfter: number | null = null) {
    super(body.message);
    this.name = "ApiError";
    this.status = status;
    this.code = body.code;
    this.param = body.param ?? null;
    this.suggestions = body.suggestions ?? [];
    this.canRetry = body.can_retry ?? false;
    this.retryAfter = retryAfter;
  }
}

/** Reads the error of a response. A proxy in between may have written the response. */
export async function toApiError(response: Response): Promise<ApiError> {
  const seconds = Number(response.headers.get("retry-after"));
  const retryAfter = seconds > 0 ? seconds : null;
  try {
    const body = (await response.json()) as { error?: ErrorBody };
    if (body.error?.message) return new ApiError(response.status, body.error, retryAfter);
  } catch {
    // The body is not JSON.
  }
  const message = `The server responded ${response.status} ${response.statusText}`.trimEnd();
  const body = {
    type: "internal",
    code: "unknown",
    message: `${message}.`,
    param: null,
    suggestions: [],
    can_retry: true,
  };
  return new ApiError(response.status, body as ErrorBody, retryAfter);
}

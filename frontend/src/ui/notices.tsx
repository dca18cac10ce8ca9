/** Empty, loading and error states. */
import { CircleAlert, WifiOff } from "lucide-react";
import type { ReactNode } from "react";
import { ServiceUnreachable } from "@/api/client";
import { ApiError } from "@/api/errors";
import { useText } from "@/text";
import { Button } from "./button";
import { cx } from "./cx";

/** An error in the service's words, with its suggestions. */
export function ErrorNotice({
  error,
  onRetry,
  action,
  className,
}: {
  error: unknown;
  onRetry?: () => void;
  action?: ReactNode;
  className?: string;
}) {
  const text = useText();
  const gone = error instanceof ServiceUnreachable;
  const message = gone ? text.errors.unreachable : error instanceof Error ? error.message : String(error);
  const suggestions =
    error instanceof ApiError ? error.suggestions : gone ? [text.errors.unreachableHint] : [];
  const Icon = gone ? WifiOff : CircleAlert;
  return (
    <div role="alert" className={cx("flex gap-3 rounded-lg bg-bad-soft p-3 text-sm", className)}>
      <Icon aria-hidden className="mt-0.5 size-4 shrink-0 text-bad" />
      <div className="min-w-0 flex-1">
        <p className="font-medium wrap-anywhere">{message}</p>
        {suggestions.map((suggestion) => (
          <p key={suggestion} className="mt-1 text-muted wrap-anywhere">
            {suggestion}
          </p>
        ))}
        {(onRetry || action) && (
          <div className="mt-2 flex gap-2">
            {onRetry && (
              <Button size="sm" onClick={onRetry}>
                {text.common.retry}
              </Button>
            )}
            {action}
          </div>
        )}
      </div>
    </div>
  );
}

export function EmptyState({
  icon,
  title,
  hint,
  action,
}: {
  icon: ReactNode;
  title: string;
  hint?: string;
  action?: ReactNode;
}) {
  return (
    <div className="flex flex-col items-center gap-3 px-6 py-16 text-center">
      <div className="text-line-strong [&_svg]:size-10 [&_svg]:stroke-[1.25]" aria-hidden>
        {icon}
      </div>
      <p className="text-lg font-medium">{title}</p>
      {hint && <p className="max-w-sm text-sm text-muted">{hint}</p>}
      {action}
    </div>
  );
}

/** The share of something that is done, in percent; without a value it is not known. */
export function ProgressBar({
  value,
  label,
  className,
}: {
  value?: number | null;
  label: string;
  className?: string;
}) {
  const known = value !== null && value !== undefined;
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      {...(known ? { "aria-valuenow": Math.round(value) } : {})}
      className={cx("h-1 overflow-hidden rounded-full bg-line", className)}
    >
      <div
        className={cx(
          "h-full rounded-full",
          known ? "bg-accent transition-[width] duration-300" : "skeleton",
        )}
        style={known ? { width: `${value}%` } : undefined}
      />
    </div>
  );
}

import { useEffect } from "react";
import { ErrorNotice } from "@/ui/notices";

const RETRY_MS = 3_000;

/** The moment before the page knows who uses it; without a response, the reason. It tries again by itself. */
export function Waiting({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  useEffect(() => {
    if (!error) return;
    const timer = setTimeout(onRetry, RETRY_MS);
    return () => clearTimeout(timer);
  }, [error, onRetry]);
  return (
    <main className="flex min-h-dvh items-center justify-center p-4">
      {error ? <ErrorNotice error={error} onRetry={onRetry} className="max-w-md" /> : null}
    </main>
  );
}

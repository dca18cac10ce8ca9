/** Banners on every page: a lost connection, mock mode. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { isUnavailable } from "@/api/client";
import { activeQuery, generationModeQuery } from "@/api/queries";
import { useConnectionState } from "@/live/provider";
import { useSession } from "@/session/session";
import { useText } from "@/text";
import { cx } from "@/ui/cx";

/** Time that a short interruption may take before the page reports it. */
const PATIENCE_MS = 1_500;

export function Banners() {
  const text = useText();
  const state = useConnectionState();
  const { error } = useQuery(activeQuery);
  const mode = useQuery(generationModeQuery).data?.mode;
  const { can } = useSession();
  const isLate = useIsLasting(state === "polling");
  const offline = isUnavailable(error);
  return (
    <div aria-live="polite" className="empty:hidden">
      {offline ? (
        <Banner tone="bad">{text.connection.offline}</Banner>
      ) : (
        isLate && <Banner tone="warn">{text.connection.polling}</Banner>
      )}
      {!can("submit") && (
        <Banner tone="warn">{can("read") ? text.session.readOnly : text.session.noRead}</Banner>
      )}
      {mode === "mock" && <Banner tone="warn">{text.connection.mock}</Banner>}
    </div>
  );
}

function Banner({ tone, children }: { tone: "bad" | "warn"; children: string }) {
  return (
    <p
      className={cx(
        "px-4 py-1.5 text-center text-sm",
        tone === "bad" ? "bg-bad-soft text-bad" : "bg-warn-soft text-warn",
      )}
    >
      {children}
    </p>
  );
}

/** Returns whether a condition has held for a moment. */
function useIsLasting(condition: boolean): boolean {
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    if (!condition) {
      setLasting(false);
      return;
    }
    const timer = setTimeout(() => setLasting(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [condition]);
  return lasting;
}

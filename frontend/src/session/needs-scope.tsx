import { Lock } from "lucide-react";
import { useText } from "@/text";
import { type Scope, useSession } from "./session";

/** Says why something is not offered. Renders nothing for those whom the service lets do it. */
export function NeedsScope({ scope, className }: { scope: Scope; className?: string }) {
  const text = useText();
  const { can } = useSession();
  if (can(scope)) return null;
  return (
    <p className={className ?? "flex items-center gap-1.5 text-sm text-muted"}>
      <Lock aria-hidden className="size-3.5 shrink-0" />
      {text.session.needs[scope]}
    </p>
  );
}

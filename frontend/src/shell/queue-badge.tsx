import { useQuery } from "@tanstack/react-query";
import { activeQuery } from "@/api/queries";

/** The number of unfinished jobs. */
export function QueueBadge() {
  const count =
    useQuery({ ...activeQuery, select: (active) => active.running.length + active.pendingTotal }).data ?? 0;
  if (count === 0) return null;
  return (
    <span className="absolute top-1 left-1/2 ml-2 min-w-4.5 rounded-full bg-accent px-1 text-center font-medium text-on-accent text-xs tabular xl:static xl:ml-auto">
      {count > 999 ? "999+" : count}
    </span>
  );
}

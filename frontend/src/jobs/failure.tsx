import { RotateCcw } from "lucide-react";
import type { Task } from "@/api/types";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { useTaskActions } from "./actions";

/** The error of a failed job, the service's suggestions, and the retry. */
export function Failure({ task }: { task: Task }) {
  const text = useText();
  const { retry } = useTaskActions(task.id);
  const suggestions = Array.isArray(task.error?.suggestions) ? task.error.suggestions.map(String) : [];
  return (
    <div className="rounded-md bg-bad-soft p-2.5 text-xs">
      <p className="wrap-anywhere">{task.error_message}</p>
      {suggestions.map((suggestion) => (
        <p key={suggestion} className="mt-1 text-muted wrap-anywhere">
          {suggestion}
        </p>
      ))}
      <Button size="sm" className="mt-2" disabled={retry.isPending} onClick={() => retry.mutate()}>
        <RotateCcw />
        {text.queue.retry}
      </Button>
    </div>
  );
}

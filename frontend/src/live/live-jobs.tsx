/** Live jobs, and the messages that tell the user of their ends. */
import { type ReactNode, useCallback } from "react";
import type { Task } from "@/api/types";
import { router } from "@/router";
import { notify } from "@/shell/notifications";
import { useText } from "@/text";
import { useToast } from "@/ui/toaster";
import { LiveProvider } from "./provider";

export function LiveJobs({ children }: { children: ReactNode }) {
  const text = useText();
  const toast = useToast();
  const onEnding = useCallback(
    (task: Task) => {
      if (task.status === "cancelled") return;
      const failed = task.status === "failed";
      const title = failed ? text.ending.failed : text.ending.completed;
      const detail = failed ? (task.error_message ?? task.prompt) : task.prompt;
      const show = () =>
        void router.navigate(failed ? { to: "/queue" } : { to: "/gallery", search: { video: task.id } });
      toast({ title, detail, tone: failed ? "bad" : "good", action: { label: text.ending.show, run: show } });
      notify(title, detail, show);
    },
    [text, toast],
  );
  return <LiveProvider onEnding={onEnding}>{children}</LiveProvider>;
}

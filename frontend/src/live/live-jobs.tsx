/** Live jobs, and the messages that tell the user of their ends. */
import { type ReactNode, useCallback } from "react";
import { router } from "@/router";
import { notify } from "@/shell/notifications";
import { type Text, useText } from "@/text";
import { useToast } from "@/ui/toaster";
import { LiveProvider } from "./provider";
import type { Report } from "./reports";

export function LiveJobs({ children }: { children: ReactNode }) {
  const text = useText();
  const toast = useToast();
  const onReport = useCallback(
    (report: Report) => {
      const { id, title, detail, failed, video } = describe(report, text);
      const show = () =>
        void router.navigate(
          video ? { to: "/gallery", search: { video } } : { to: failed ? "/queue" : "/gallery" },
        );
      toast({ title, detail, tone: failed ? "bad" : "good", action: { label: text.ending.show, run: show } });
      notify(id, title, detail, show);
    },
    [text, toast],
  );
  return <LiveProvider onReport={onReport}>{children}</LiveProvider>;
}

type Description = { id: string; title: string; detail: string; failed: boolean; video?: string };

function describe(report: Report, text: Text): Description {
  if (report.kind === "job") {
    const { id, status, prompt, error_message } = report.task;
    if (status === "failed")
      return { id, title: text.ending.failed, detail: error_message ?? prompt, failed: true };
    return { id, title: text.ending.completed, detail: prompt, failed: false, video: id };
  }
  if (report.kind === "batch") {
    const { id, completed, failed, total, tasks } = report.batch;
    const title = text.ending.batch(completed, total);
    return { id, title, detail: tasks[0]?.prompt ?? "", failed: failed > 0 };
  }
  const { completed, failed } = report;
  const title = text.ending.many(completed + failed);
  return { id: "many", title, detail: text.ending.counts(completed, failed), failed: failed > 0 };
}

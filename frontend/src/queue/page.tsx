import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ListVideo, Pause, Play } from "lucide-react";
import { useState } from "react";
import { activeQuery } from "@/api/queries";
import { useSession } from "@/session/session";
import { PageHead } from "@/shell/shell";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { cx } from "@/ui/cx";
import { Choices } from "@/ui/field";
import { EmptyState, ErrorNotice } from "@/ui/notices";
import { useQueueActions } from "./actions";
import { EndedList } from "./ended-list";
import { RunningCard } from "./running-card";
import { Section } from "./section";
import { WaitingList } from "./waiting-list";

const VIEWS = ["active", "ended"] as const;
type View = (typeof VIEWS)[number];

export function QueuePage() {
  const text = useText();
  const { data: active, error, refetch } = useQuery(activeQuery);
  const { pause } = useQueueActions();
  const { can } = useSession();
  // Narrow screens show one of the two columns.
  const [view, setView] = useState<View>("active");
  return (
    <>
      <PageHead
        title={text.queue.title}
        aside={active && text.queue.summary(active.running.length, active.pendingTotal)}
      >
        {can("admin") && (
          <Button disabled={!active || pause.isPending} onClick={() => pause.mutate(!active?.paused)}>
            {active?.paused ? <Play /> : <Pause />}
            {active?.paused ? text.queue.resume : text.queue.pause}
          </Button>
        )}
      </PageHead>
      <div className="page-width grid gap-x-8 gap-y-4 pb-10 lg:grid-cols-[minmax(0,1fr)_22rem]">
        <div className="lg:hidden">
          <Choices
            label={text.queue.views.label}
            value={view}
            onChange={setView}
            options={VIEWS.map((value) => ({ value, label: text.queue.views[value] }))}
          />
        </div>
        <div className={cx("flex min-w-0 flex-col gap-6", view !== "active" && "max-lg:hidden")}>
          {active ? (
            <ActiveJobs {...active} />
          ) : error ? (
            <ErrorNotice error={error} onRetry={() => void refetch()} />
          ) : (
            <Loading />
          )}
        </div>
        <EndedList className={cx(view !== "ended" && "max-lg:hidden")} />
      </div>
    </>
  );
}

function ActiveJobs({
  paused,
  running,
  pending,
  pendingTotal,
}: {
  paused: boolean;
  running: readonly string[];
  pending: readonly string[];
  pendingTotal: number;
}) {
  const text = useText();
  const isIdle = running.length === 0 && pending.length === 0;
  return (
    <>
      {paused && (
        <p role="status" className="rounded-lg bg-warn-soft px-3 py-2 text-sm text-warn">
          {text.queue.paused}
        </p>
      )}
      {isIdle ? (
        <div className="rounded-xl border bg-surface">
          <EmptyState
            icon={<ListVideo />}
            title={text.queue.nothing}
            hint={text.queue.nothingHint}
            action={
              <Button asChild look="primary">
                <Link to="/">{text.queue.toCreate}</Link>
              </Button>
            }
          />
        </div>
      ) : (
        <>
          <Section title={text.queue.running} count={running.length}>
            {running.length === 0 && <p className="text-muted text-sm">{text.queue.nothingRuns}</p>}
            <ul className="flex flex-col gap-3">
              {running.map((id) => (
                <RunningCard key={id} id={id} />
              ))}
            </ul>
          </Section>
          <Section title={text.queue.waiting} count={pendingTotal}>
            {pending.length === 0 && <p className="text-muted text-sm">{text.queue.nothingWaits}</p>}
            <WaitingList ids={pending} />
            {pendingTotal > pending.length && (
              <p className="text-muted text-xs">{text.queue.limited(pending.length, pendingTotal)}</p>
            )}
          </Section>
        </>
      )}
    </>
  );
}

function Loading() {
  return (
    <div aria-hidden className="mt-10 flex flex-col gap-3">
      <div className="skeleton h-40 rounded-xl" />
      <div className="skeleton h-14 rounded-lg" />
      <div className="skeleton h-14 rounded-lg" />
    </div>
  );
}

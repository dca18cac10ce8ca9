import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { ENDED_STATES, type EndedState, endedQuery } from "@/api/queries";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Choices } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { useQueueActions } from "./actions";
import { useDoomed } from "./deletion";
import { EndedRow } from "./ended-row";
import { Section } from "./section";

type Filter = EndedState | "all";

export function EndedList({ className }: { className?: string }) {
  const text = useText();
  const [filter, setFilter] = useState<Filter>("all");
  const { data, error, isPending, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } =
    useInfiniteQuery(endedQuery(filter === "all" ? ENDED_STATES : [filter]));
  const { clear } = useQueueActions();
  const doomed = useDoomed();
  const ids = [...new Set(data?.pages.flatMap((page) => page.ids))].filter((id) => !doomed.has(id));
  const counts = data?.pages[0]?.counts;
  const total = counts ? counts.completed + counts.failed + counts.cancelled : null;
  return (
    <Section
      title={text.queue.ended}
      count={total}
      className={className}
      action={
        <Button size="sm" disabled={!total || clear.isPending} onClick={() => clear.mutate()}>
          {text.queue.clear}
        </Button>
      }
    >
      <Choices<Filter>
        label={text.queue.filter}
        value={filter}
        onChange={setFilter}
        options={(["all", ...ENDED_STATES] as const).map((value) => ({
          value,
          label: text.queue.states[value],
        }))}
      />
      {error && !data && <ErrorNotice error={error} onRetry={() => void refetch()} className="mt-3" />}
      {isPending && !error && (
        <div className="mt-3 flex flex-col gap-3" aria-hidden>
          {[1, 2, 3].map((row) => (
            <div key={row} className="skeleton h-16" />
          ))}
        </div>
      )}
      {data && ids.length === 0 && (
        <p className="py-8 text-center text-muted text-sm">{text.queue.nothingEnded}</p>
      )}
      <ul className="mt-1 divide-y">
        {ids.map((id) => (
          <EndedRow key={id} id={id} />
        ))}
      </ul>
      {hasNextPage && (
        <Button
          size="sm"
          className="mt-2 w-full"
          disabled={isFetchingNextPage}
          onClick={() => void fetchNextPage()}
        >
          {text.queue.showMore}
        </Button>
      )}
    </Section>
  );
}

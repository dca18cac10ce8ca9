/** Reports of ends: one for a job, one for a whole batch, and one for many jobs that ended together. */
import type { QueryClient } from "@tanstack/react-query";
import { batchQuery, isEnded } from "@/api/queries";
import type { Batch, Task } from "@/api/types";

export type Report =
  | { kind: "job"; task: Task }
  | { kind: "batch"; batch: Batch }
  | { kind: "many"; completed: number; failed: number };

/** Time in which further ends join a report: after a sleep, the page learns of many at once. */
export const GATHER_MS = 400;
/** Largest number of single jobs that are reported one by one. */
const ONE_BY_ONE = 3;

export class EndingReporter {
  private gathered: Task[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly client: QueryClient,
    private readonly report: (report: Report) => void,
  ) {}

  readonly add = (task: Task): void => {
    this.gathered.push(task);
    this.timer ??= setTimeout(() => void this.flush(), GATHER_MS);
  };

  private async flush(): Promise<void> {
    const tasks = this.gathered;
    this.gathered = [];
    this.timer = undefined;
    const single = tasks.filter((task) => !task.batch_id && task.status !== "cancelled");
    if (single.length <= ONE_BY_ONE) {
      for (const task of single) this.report({ kind: "job", task });
    } else {
      const failed = single.filter((task) => task.status === "failed").length;
      this.report({ kind: "many", completed: single.length - failed, failed });
    }
    const batches = new Set(tasks.map((task) => task.batch_id).filter((id) => id !== null));
    await Promise.all([...batches].map((id) => this.reportBatch(id)));
  }

  /** Reports a batch unless a job of it is unfinished: its end will report the batch. */
  private async reportBatch(id: string): Promise<void> {
    const known = this.client.getQueriesData<Task>({ queryKey: ["task"] });
    if (known.some(([, task]) => task?.batch_id === id && !isEnded(task.status))) return;
    const batch = await this.client.fetchQuery({ ...batchQuery(id), staleTime: 0 }).catch(() => null);
    if (batch && isEnded(batch.status) && batch.completed + batch.failed > 0)
      this.report({ kind: "batch", batch });
  }
}

import { type ReactNode, useId } from "react";
import { cx } from "@/ui/cx";

/** A list of jobs with its title, the number of jobs, and what can be done with all of them. */
export function Section({
  title,
  count,
  action,
  children,
  className,
}: {
  title: string;
  count: number | null;
  action?: ReactNode;
  children: ReactNode;
  className?: string | undefined;
}) {
  const id = useId();
  return (
    <section aria-labelledby={id} className={cx("min-w-0", className)}>
      <div className="mb-2 flex min-h-8 items-center gap-2">
        <h2 id={id} className="font-semibold text-sm">
          {title}
        </h2>
        {count !== null && <span className="text-muted text-xs tabular">{count.toLocaleString()}</span>}
        {action && <div className="ml-auto">{action}</div>}
      </div>
      {children}
    </section>
  );
}

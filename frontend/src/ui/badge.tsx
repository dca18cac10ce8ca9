import type { ReactNode } from "react";
import { cx } from "./cx";

const TONES = {
  plain: "bg-sunken text-muted",
  accent: "bg-accent-soft text-accent-text",
  good: "bg-good-soft text-good",
  warn: "bg-warn-soft text-warn",
  bad: "bg-bad-soft text-bad",
} as const;
export type Tone = keyof typeof TONES;

/** A short state in words. */
export function Badge({ tone = "plain", children }: { tone?: Tone; children: ReactNode }) {
  return (
    <span className={cx("shrink-0 whitespace-nowrap rounded-full px-2 py-0.5 text-xs", TONES[tone])}>
      {children}
    </span>
  );
}

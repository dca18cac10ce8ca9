import { Slot } from "radix-ui";
import type { ComponentProps } from "react";
import { cx } from "./cx";

const LOOKS = {
  primary: "bg-accent text-on-accent hover:bg-accent-strong font-medium",
  plain: "border bg-raised hover:border-line-strong",
  quiet: "hover:bg-sunken text-muted hover:text-text",
  danger: "border border-bad/40 text-bad hover:bg-bad-soft",
} as const;
const SIZES = { md: "h-9 px-3.5 text-sm", lg: "h-11 px-5 text-base", sm: "h-7 px-2.5 text-xs" } as const;

type Props = ComponentProps<"button"> & {
  look?: keyof typeof LOOKS;
  size?: keyof typeof SIZES;
  asChild?: boolean;
};

export function Button({
  look = "plain",
  size = "md",
  asChild = false,
  className,
  type = "button",
  ...props
}: Props) {
  const Element = asChild ? Slot.Root : "button";
  return (
    <Element
      {...(asChild ? {} : { type })}
      className={cx(
        "inline-flex shrink-0 select-none items-center justify-center gap-2 whitespace-nowrap rounded-md transition-colors",
        "disabled:pointer-events-none disabled:opacity-50 [&_svg]:size-4 [&_svg]:shrink-0",
        LOOKS[look],
        SIZES[size],
        className,
      )}
      {...props}
    />
  );
}

/** A button that shows an icon only. Its label is read by screen readers, and shown as a tooltip by the browser. */
export function IconButton({
  label,
  className,
  look = "quiet",
  size = "md",
  ...props
}: Props & { label: string }) {
  const width = size === "sm" ? "w-7" : size === "lg" ? "w-11" : "w-9";
  return (
    <Button
      look={look}
      size={size}
      aria-label={label}
      title={label}
      className={cx(width, "px-0!", className)}
      {...props}
    />
  );
}

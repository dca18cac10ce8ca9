import { X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import type { ComponentProps, KeyboardEvent, ReactNode, RefObject } from "react";
import { useText } from "@/text";
import { IconButton } from "./button";
import { cx } from "./cx";

/** A dialog that takes the focus, and gives it back when it closes. */
export function Dialog({
  open,
  onOpenChange,
  title,
  description,
  children,
  wide = false,
}: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: string;
  children: ReactNode;
  wide?: boolean;
}) {
  const text = useText();
  return (
    <Radix.Root open={open} onOpenChange={onOpenChange}>
      <Radix.Portal>
        <Radix.Overlay className="appear fixed inset-0 z-40 bg-shade" />
        <Radix.Content
          {...(description ? {} : { "aria-describedby": undefined })}
          className={cx(
            "appear fixed inset-x-3 top-1/2 z-50 mx-auto max-h-[90dvh] -translate-y-1/2 overflow-y-auto rounded-xl border bg-surface p-5 shadow-lift",
            wide ? "max-w-5xl" : "max-w-lg",
          )}
        >
          <div className="mb-4 flex items-start justify-between gap-4">
            <div>
              <Radix.Title className="text-lg font-semibold">{title}</Radix.Title>
              {description && (
                <Radix.Description className="mt-1 text-sm text-muted">{description}</Radix.Description>
              )}
            </div>
            <Radix.Close asChild>
              <IconButton label={text.common.close} size="sm">
                <X />
              </IconButton>
            </Radix.Close>
          </div>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

/**
 * A dialog over the whole window, whose keys work from everywhere in it.
 *
 * Escape closes it by a handler of its own, because Radix gives the key to a message while one is shown.
 */
export function FullScreen({
  content,
  onClose,
  onKeyDown,
  className,
  children,
  ...props
}: Omit<ComponentProps<typeof Radix.Content>, "content" | "onKeyDown"> & {
  content: RefObject<HTMLDivElement | null>;
  onClose: () => void;
  /** Handles a key, and returns whether it has. */
  onKeyDown: (event: KeyboardEvent) => boolean;
}) {
  return (
    <Radix.Root open onOpenChange={(open) => !open && onClose()}>
      <Radix.Portal>
        <Radix.Overlay className="fixed inset-0 z-40 bg-shade" />
        <Radix.Content
          ref={content}
          tabIndex={-1}
          aria-describedby={undefined}
          onKeyDown={(event) => {
            if (event.key === "Escape") onClose();
            else if (!onKeyDown(event)) return;
            event.preventDefault();
          }}
          onOpenAutoFocus={(event) => {
            event.preventDefault();
            content.current?.focus();
          }}
          className={cx(
            "appear fixed inset-0 z-50 overflow-y-auto bg-surface outline-none md:inset-4 md:rounded-xl md:border md:shadow-lift",
            className,
          )}
          {...props}
        >
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

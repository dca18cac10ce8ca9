/** Short messages at the edge of the page, for what happened elsewhere. */
import { X } from "lucide-react";
import { Toast } from "radix-ui";
import { createContext, type ReactNode, useCallback, useContext, useEffect, useRef, useState } from "react";
import { useText } from "@/text";
import { Button } from "./button";
import { cx } from "./cx";

type Note = {
  id: number;
  title: string;
  detail?: string | undefined;
  tone?: "good" | "bad";
  action?: { label: string; run: () => void };
  ms?: number;
  /** Called once the message, and with it the chance of its action, is gone. */
  onClosed?: () => void;
};
const Context = createContext<(note: Omit<Note, "id">) => void>(() => undefined);
let lastId = 0;

export function ToastProvider({ children }: { children: ReactNode }) {
  const text = useText();
  const [notes, setNotes] = useState<Note[]>([]);
  const show = useCallback((note: Omit<Note, "id">) => {
    lastId += 1;
    const id = lastId;
    setNotes((shown) => [...shown.slice(-3), { ...note, id }]);
  }, []);
  const previous = useRef<Note[]>([]);
  useEffect(() => {
    for (const note of previous.current) if (!notes.includes(note)) note.onClosed?.();
    previous.current = notes;
  }, [notes]);
  const close = (id: number) => setNotes((shown) => shown.filter((note) => note.id !== id));
  return (
    <Context.Provider value={show}>
      <Toast.Provider label={text.common.message}>
        {children}
        {notes.map((note) => (
          <Toast.Root
            key={note.id}
            duration={note.ms ?? 6_000}
            onOpenChange={(open) => !open && close(note.id)}
            onEscapeKeyDown={keepUnlessFocused}
            className="appear flex items-start gap-3 rounded-lg border bg-raised p-3 shadow-lift"
          >
            <span
              aria-hidden
              className={cx(
                "mt-1.5 size-2 shrink-0 rounded-full",
                note.tone === "bad" ? "bg-bad" : note.tone === "good" ? "bg-good" : "bg-accent",
              )}
            />
            <div className="min-w-0 flex-1 text-sm">
              <Toast.Title className="font-medium">{note.title}</Toast.Title>
              {note.detail && (
                <Toast.Description className="line-clamp-3 text-muted wrap-anywhere">
                  {note.detail}
                </Toast.Description>
              )}
            </div>
            {note.action && (
              <Toast.Action altText={note.action.label} asChild>
                <Button size="sm" onClick={note.action.run}>
                  {note.action.label}
                </Button>
              </Toast.Action>
            )}
            <Toast.Close aria-label={text.common.message} className="mt-0.5 text-muted hover:text-text">
              <X className="size-4" />
            </Toast.Close>
          </Toast.Root>
        ))}
        <Toast.Viewport
          data-toasts
          className="fixed right-3 bottom-20 z-50 flex w-[min(24rem,calc(100vw-1.5rem))] flex-col gap-2 outline-none md:bottom-4"
        />
      </Toast.Provider>
    </Context.Provider>
  );
}

/** Keeps a message when Escape closes something else: its button may be the only way to undo. */
function keepUnlessFocused(event: KeyboardEvent): void {
  if (!(event.target instanceof Element && event.target.closest("[data-toasts]"))) event.preventDefault();
}

/** Returns a function that shows a message. */
export function useToast() {
  return useContext(Context);
}

/** Returns a function that shows why an action failed, in the service's words. */
export function useFailureToast(): (error: unknown) => void {
  const toast = useToast();
  const text = useText();
  return useCallback(
    (error) => {
      const detail = error instanceof Error ? error.message : String(error);
      toast({ title: text.errors.title, detail, tone: "bad" });
    },
    [toast, text],
  );
}

import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import { useText } from "@/text";
import { IconButton } from "./button";

/** Copies a text, and returns whether that worked. Browsers have no clipboard for pages over plain HTTP. */
export async function copyText(value: string): Promise<boolean> {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(value).then(
      () => true,
      () => false,
    );
  }
  const area = document.createElement("textarea");
  area.value = value;
  area.className = "sr-only";
  (document.querySelector('[role="dialog"]') ?? document.body).append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

/** A button that copies a text, and shows for a moment that it did. */
export function CopyButton({ value, label }: { value: string; label: string }) {
  const text = useText();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <IconButton
      label={copied ? text.common.copied : label}
      size="sm"
      onClick={() => void copyText(value).then(setCopied)}
    >
      {copied ? <Check className="text-good" /> : <Copy />}
    </IconButton>
  );
}

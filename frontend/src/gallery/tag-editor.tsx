import { useQuery } from "@tanstack/react-query";
import { Plus, X } from "lucide-react";
import { type FormEvent, useId, useState } from "react";
import { useText } from "@/text";
import { IconButton } from "@/ui/button";
import { Input } from "@/ui/field";
import { tagsQuery } from "./queries";

const MOST_TAGS = 20;
const ALLOWED = /^[^,"\\\p{Cc}]{1,40}$/u;

/** Tags as chips, and a field for another one, which suggests the known tags. */
export function TagEditor({
  tags,
  onChange,
}: {
  tags: readonly string[];
  onChange: (tags: string[]) => void;
}) {
  const text = useText();
  const id = useId();
  const known = useQuery(tagsQuery).data ?? [];
  const [typed, setTyped] = useState("");
  const tag = typed.trim().toLowerCase();
  const isWrong = tag !== "" && !ALLOWED.test(tag);
  const add = (event: FormEvent) => {
    event.preventDefault();
    if (!tag || isWrong) return;
    if (!tags.includes(tag)) onChange([...tags, tag]);
    setTyped("");
  };
  return (
    <div className="flex flex-col gap-2">
      {tags.length > 0 && (
        <ul className="flex flex-wrap gap-1.5">
          {tags.map((each) => (
            <li
              key={each}
              className="flex max-w-full items-center gap-1 rounded-full bg-sunken py-0.5 pr-1 pl-2.5 text-sm"
            >
              <span className="truncate">{each}</span>
              <button
                type="button"
                aria-label={text.gallery.removeTag(each)}
                onClick={() => onChange(tags.filter((other) => other !== each))}
                className="rounded-full p-1 text-muted hover:text-text"
              >
                <X aria-hidden className="size-3.5" />
              </button>
            </li>
          ))}
        </ul>
      )}
      {tags.length < MOST_TAGS && (
        <form onSubmit={add} className="flex gap-1.5">
          <Input
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
            list={`${id}-known`}
            aria-label={text.gallery.addTag}
            placeholder={text.gallery.addTag}
            aria-invalid={isWrong || undefined}
            aria-describedby={isWrong ? `${id}-hint` : undefined}
          />
          <datalist id={`${id}-known`}>
            {known
              .filter((each) => !tags.includes(each.tag))
              .map((each) => (
                <option key={each.tag} value={each.tag} />
              ))}
          </datalist>
          <IconButton label={text.gallery.addTag} type="submit" look="plain" disabled={!tag || isWrong}>
            <Plus />
          </IconButton>
        </form>
      )}
      {isWrong && (
        <p id={`${id}-hint`} className="text-bad text-xs">
          {text.gallery.tagHint}
        </p>
      )}
    </div>
  );
}

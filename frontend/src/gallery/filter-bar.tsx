import { useQuery } from "@tanstack/react-query";
import { Search, SlidersHorizontal, Star, X } from "lucide-react";
import { useEffect, useId, useRef, useState } from "react";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { cx } from "@/ui/cx";
import { Input, Select } from "@/ui/field";
import { dayBefore, type Filters, isFiltered, MODEL_TYPES, SHAPES } from "./filters";
import { tagsQuery } from "./queries";

const TYPING_MS = 250;
const DATES = { today: 0, week: 6, month: 29 } as const;
type Props = { filters: Filters; onChange: (change: Filters) => void };

/**
 * The search and the filters. On a phone, the filters are behind a button.
 * Their widths are fixed, so that nothing moves when the font or the tags arrive.
 */
export function FilterBar({ filters, onChange }: Props) {
  const text = useText();
  const id = useId();
  const [isOpen, setOpen] = useState(() => isFiltered({ ...filters, query: "" }));
  const tags = useQuery(tagsQuery).data ?? [];
  const known = tags.some(({ tag }) => tag === filters.tag);
  return (
    <search className="flex flex-wrap items-center gap-2">
      <SearchField value={filters.query ?? ""} onChange={(query) => onChange({ query })} />
      <Button
        aria-pressed={Boolean(filters.favorite)}
        onClick={() => onChange({ favorite: filters.favorite ? "" : "yes" })}
        className="aria-pressed:border-accent aria-pressed:text-accent-text"
      >
        <Star aria-hidden className={cx(filters.favorite && "fill-current")} />
        {text.gallery.favorites}
      </Button>
      <Button
        aria-expanded={isOpen}
        aria-controls={id}
        onClick={() => setOpen(!isOpen)}
        className="md:hidden"
      >
        <SlidersHorizontal aria-hidden />
        {text.gallery.filters}
      </Button>
      <div id={id} className={cx("w-full grid-cols-2 gap-2 md:contents", isOpen ? "grid" : "hidden")}>
        <Filter
          label={text.gallery.model}
          value={filters.model ?? ""}
          onChange={(model) => onChange({ model })}
          options={[
            ["", text.gallery.anyModel],
            ...MODEL_TYPES.map((type) => [type, text.gallery.modelTypes[type] ?? type] as const),
          ]}
        />
        <Filter
          label={text.gallery.shape}
          value={filters.shape ?? ""}
          onChange={(shape) => onChange({ shape })}
          options={[
            ["", text.gallery.anyShape],
            ...SHAPES.map((shape) => [shape, text.create.shape[shape]] as const),
          ]}
        />
        <DateFilter filters={filters} onChange={onChange} />
        <Filter
          label={text.gallery.tag}
          value={filters.tag ?? ""}
          onChange={(tag) => onChange({ tag })}
          options={[
            ["", text.gallery.anyTag],
            ...(filters.tag && !known ? [[filters.tag, filters.tag] as const] : []),
            ...tags.map(({ tag, count }) => [tag, text.gallery.tagCount(tag, count)] as const),
          ]}
        />
        <Filter
          label={text.gallery.kind}
          value={filters.kind ?? ""}
          onChange={(kind) => onChange({ kind })}
          options={[
            ["", text.gallery.anyKind],
            ["real", text.gallery.realOnly],
            ["placeholder", text.gallery.placeholders],
          ]}
        />
        <Filter
          label={text.gallery.order}
          value={filters.order ?? ""}
          onChange={(order) => onChange({ order })}
          options={[
            ["", text.gallery.orders.newest],
            ["oldest", text.gallery.orders.oldest],
          ]}
        />
      </div>
    </search>
  );
}

/** Searches while the user types, after a short pause. */
function SearchField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const text = useText();
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);
  useEffect(() => {
    if (value === sent.current) return;
    sent.current = value; // another way than typing: a link, or the button that clears the filters
    setTyped(value);
  }, [value]);
  const change = useRef(onChange);
  change.current = onChange;
  useEffect(() => {
    if (typed.trim() === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = typed.trim();
      change.current(sent.current);
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <div className="relative w-full min-w-44 sm:w-auto sm:max-w-72 sm:flex-1">
      <Search aria-hidden className="pointer-events-none absolute top-2.5 left-3 size-4 text-muted" />
      <Input
        type="search"
        value={typed}
        maxLength={200}
        aria-label={text.gallery.search}
        placeholder={text.gallery.search}
        onChange={(event) => setTyped(event.target.value)}
        className="pr-9 pl-9 [&::-webkit-search-cancel-button]:hidden"
      />
      {typed && (
        <IconButton
          label={text.common.reset}
          size="sm"
          onClick={() => setTyped("")}
          className="absolute top-1 right-1"
        >
          <X />
        </IconButton>
      )}
    </div>
  );
}

function DateFilter({ filters, onChange }: Props) {
  const text = useText();
  const { from, to } = filters;
  const [isCustom, setCustom] = useState(false);
  const names = Object.keys(DATES) as (keyof typeof DATES)[];
  const preset = to ? undefined : names.find((name) => from === dayBefore(DATES[name]));
  const value = isCustom || ((from || to) && !preset) ? "custom" : (preset ?? "any");
  const choose = (next: string) => {
    setCustom(next === "custom");
    if (next === "custom") return;
    onChange({ from: next === "any" ? "" : dayBefore(DATES[next as keyof typeof DATES]), to: "" });
  };
  const options = ["any", ...names, "custom"] as const;
  return (
    <>
      <Filter
        label={text.gallery.date}
        value={value}
        onChange={choose}
        options={options.map((name) => [name, text.gallery.dates[name]] as const)}
      />
      {value === "custom" &&
        (["from", "to"] as const).map((name) => (
          <Input
            key={name}
            type="date"
            aria-label={text.gallery[name]}
            value={filters[name] ?? ""}
            onChange={(event) => onChange({ [name]: event.target.value })}
            className="md:w-38"
          />
        ))}
    </>
  );
}

function Filter({
  label,
  value,
  onChange,
  options,
}: {
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: readonly (readonly [value: string, label: string])[];
}) {
  return (
    <Select
      aria-label={label}
      value={value}
      onChange={(event) => onChange(event.target.value)}
      className={cx("md:w-32", value && value !== "any" && "border-accent text-accent-text")}
    >
      {options.map(([option, name]) => (
        <option key={option} value={option}>
          {name}
        </option>
      ))}
    </Select>
  );
}

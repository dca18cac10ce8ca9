/** The parts of a long video, which can be moved by mouse, touch and keyboard. */
import { DndContext, type DragEndEvent } from "@dnd-kit/core";
import { arrayMove, SortableContext, useSortable, verticalListSortingStrategy } from "@dnd-kit/sortable";
import { CSS } from "@dnd-kit/utilities";
import { GripVertical, Plus, X } from "lucide-react";
import type { Model } from "@/api/types";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { Slider, Textarea } from "@/ui/field";
import { useSorting } from "@/ui/sorting";
import { newSegment, PROMPT_LIMIT, type Segment } from "./form";
import { frameLimits } from "./models";
import { useCreateForm, useValues } from "./state";

const MIN_PARTS = 2;
const MAX_PARTS = 16;

export default function Storyboard({ model }: { model: Model }) {
  const text = useText();
  const form = useCreateForm();
  const { segments, fps } = useValues();
  const change = (parts: Segment[]) => form.setValue("segments", parts, { shouldDirty: true });
  const sorting = useSorting(segments.map((part) => part.key));
  const onDragEnd = ({ active, over }: DragEndEvent) => {
    const from = segments.findIndex((part) => part.key === active.id);
    const to = segments.findIndex((part) => part.key === over?.id);
    if (from >= 0 && to >= 0) change(arrayMove(segments, from, to));
  };
  const frames = segments.reduce(
    (sum, part) => sum + (part.numFrames ?? model.num_frames),
    1 - segments.length,
  );
  return (
    <div className="flex flex-col gap-2">
      <p className="flex justify-between gap-3 text-xs text-muted tabular">
        {text.create.storyboardHint}
        <span className="shrink-0">
          {text.create.lengthValue((frames / (fps ?? model.fps)).toFixed(1), frames)}
        </span>
      </p>
      <DndContext {...sorting} onDragEnd={onDragEnd}>
        <SortableContext items={segments.map((part) => part.key)} strategy={verticalListSortingStrategy}>
          <ol className="flex flex-col gap-2">
            {segments.map((part, index) => (
              <Part
                key={part.key}
                part={part}
                number={index + 1}
                model={model}
                fps={fps ?? model.fps}
                onChange={(next) => change(segments.map((item) => (item.key === part.key ? next : item)))}
                {...(segments.length > MIN_PARTS
                  ? { onRemove: () => change(segments.filter((item) => item.key !== part.key)) }
                  : {})}
              />
            ))}
          </ol>
        </SortableContext>
      </DndContext>
      {segments.length < MAX_PARTS && (
        <Button size="sm" className="self-start" onClick={() => change([...segments, newSegment()])}>
          <Plus />
          {text.create.addPart}
        </Button>
      )}
    </div>
  );
}

function Part({
  part,
  number,
  model,
  fps,
  onChange,
  onRemove,
}: {
  part: Segment;
  number: number;
  model: Model;
  fps: number;
  onChange: (part: Segment) => void;
  onRemove?: () => void;
}) {
  const text = useText();
  const { attributes, listeners, setNodeRef, setActivatorNodeRef, transform, transition, isDragging } =
    useSortable({
      id: part.key,
    });
  const frames = part.numFrames ?? model.num_frames;
  const { min, max } = frameLimits(model);
  const length = text.create.lengthValue((frames / fps).toFixed(1), frames);
  return (
    <li
      ref={setNodeRef}
      style={{ transform: CSS.Translate.toString(transform), transition }}
      className={`rounded-lg border bg-surface p-2.5 ${isDragging ? "relative z-10 shadow-lift" : ""}`}
    >
      <div className="mb-1.5 flex items-center gap-1">
        <button
          type="button"
          ref={setActivatorNodeRef}
          {...attributes}
          {...listeners}
          aria-label={text.create.movePart(number)}
          className="-ml-1 cursor-grab touch-none rounded-sm p-1 text-muted hover:text-text"
        >
          <GripVertical className="size-4" />
        </button>
        <span className="flex-1 text-sm font-medium">{text.create.part(number)}</span>
        {onRemove && (
          <IconButton size="sm" label={text.create.removePart(number)} onClick={onRemove}>
            <X />
          </IconButton>
        )}
      </div>
      <Textarea
        aria-label={`${text.create.part(number)}: ${text.create.prompt}`}
        value={part.prompt}
        maxLength={PROMPT_LIMIT}
        placeholder={
          model.examples[(number - 1) % Math.max(1, model.examples.length)] ?? text.create.promptHint
        }
        onChange={(event) => onChange({ ...part, prompt: event.target.value })}
        className="min-h-14"
      />
      <div className="mt-1.5 flex items-center gap-3 text-xs text-muted">
        <Slider
          label={`${text.create.part(number)}: ${text.create.length}`}
          valueText={length}
          min={min}
          max={max}
          step={4}
          value={frames}
          onChange={(value) => onChange({ ...part, numFrames: value === model.num_frames ? null : value })}
        />
        <span className="w-28 shrink-0 text-right tabular">{length}</span>
      </div>
    </li>
  );
}

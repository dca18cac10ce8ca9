/** Two to four videos side by side, with one clock and their differing settings. */
import { useQueries } from "@tanstack/react-query";
import { Pause, Play, X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import { type KeyboardEvent, useRef, useState } from "react";
import { taskQuery } from "@/api/queries";
import type { Task } from "@/api/types";
import { thumbnailAddress, videoAddress } from "@/jobs/addresses";
import { useLanguage, useText } from "@/text";
import { IconButton } from "@/ui/button";
import { FullScreen } from "@/ui/dialog";
import { Slider, Switch } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { differing, type Fact, settingsOf } from "./facts";
import { useSync } from "./sync";

const FRAME_SECONDS = 1 / 16;
/** Sum of the shapes (width divided by height) up to which videos share one row. */
const ROW_RATIO = 5;
/** Height that a row of videos has at most, as a share of the window's. */
const ROW_SHARE = 60;

export function Compare({ ids, onClose }: { ids: readonly string[]; onClose: () => void }) {
  const text = useText();
  const videos = useRef<(HTMLVideoElement | null)[]>([]);
  const content = useRef<HTMLDivElement>(null);
  const results = useQueries({ queries: ids.map((id) => taskQuery(id)) });
  const tasks = results.map((result) => result.data);
  const isLoaded = tasks.every((task) => task !== undefined);
  const clock = useSync(videos, isLoaded ? ids.join() : "");
  const failed = results.find((result) => result.error);

  const onKeyDown = (event: KeyboardEvent): boolean => {
    if (event.target !== content.current) return false;
    if (event.key === " ") clock.toggle();
    else if (event.key === "ArrowLeft") clock.seek(Math.max(0, clock.time - FRAME_SECONDS));
    else if (event.key === "ArrowRight") clock.seek(Math.min(clock.duration, clock.time + FRAME_SECONDS));
    else return false;
    return true;
  };

  return (
    <FullScreen content={content} onClose={onClose} onKeyDown={onKeyDown}>
      <div className="sticky top-0 z-10 flex items-center gap-3 border-b bg-surface/95 px-4 py-2.5 backdrop-blur">
        <Radix.Close asChild>
          <IconButton label={text.common.close}>
            <X />
          </IconButton>
        </Radix.Close>
        <Radix.Title className="font-medium max-sm:sr-only">{text.gallery.comparison}</Radix.Title>
        <IconButton
          look="plain"
          label={clock.isPlaying ? text.gallery.pause : text.gallery.play}
          onClick={clock.toggle}
          disabled={clock.duration === 0}
        >
          {clock.isPlaying ? <Pause /> : <Play />}
        </IconButton>
        <Slider
          label={text.gallery.position}
          value={clock.time}
          min={0}
          max={clock.duration || 1}
          step={0.01}
          onChange={clock.seek}
          valueText={text.gallery.positionValue(clock.time.toFixed(1), clock.duration.toFixed(1))}
        />
        <span aria-hidden className="w-20 shrink-0 text-right text-muted text-xs tabular">
          {clock.time.toFixed(1)} / {clock.duration.toFixed(1)} s
        </span>
      </div>
      <div className="p-4">
        {failed && <ErrorNotice error={failed.error} onRetry={() => void failed.refetch()} />}
        {isLoaded
          ? rowsOf(tasks).map((row) => (
              <div
                key={row[0]?.task.id}
                className="mx-auto mb-3 flex items-start gap-3 max-sm:flex-col"
                style={{ maxWidth: `${ROW_SHARE * sumOf(row)}dvh` }}
              >
                {row.map(({ task, index }) => (
                  <figure
                    key={task.id}
                    className="min-w-0 max-sm:w-full"
                    style={{ flex: `${ratioOf(task)} 1 0` }}
                  >
                    <video
                      ref={(element) => {
                        videos.current[index] = element;
                      }}
                      src={videoAddress(task.id)}
                      poster={thumbnailAddress(task.id)}
                      preload="auto"
                      muted
                      playsInline
                      aria-label={`${text.gallery.videoNumber(index + 1)}: ${task.prompt}`}
                      className="w-full rounded-lg bg-sunken object-cover"
                      style={{ aspectRatio: `${task.width} / ${task.height}` }}
                    />
                    <figcaption className="mt-1 text-muted text-xs">
                      {text.gallery.videoNumber(index + 1)}
                    </figcaption>
                  </figure>
                ))}
              </div>
            ))
          : !failed && <div className="skeleton h-[60dvh]" />}
        {isLoaded && <Differences tasks={tasks} />}
      </div>
    </FullScreen>
  );
}

type Shown = { task: Task; index: number };

/** Divides the videos into one row, or into two rows if one would make them too small. */
function rowsOf(tasks: readonly Task[]): Shown[][] {
  const shown = tasks.map((task, index) => ({ task, index }));
  const isOneRow = shown.length < 4 || sumOf(shown) <= ROW_RATIO;
  return isOneRow ? [shown] : [shown.slice(0, 2), shown.slice(2)];
}

function sumOf(row: readonly Shown[]): number {
  return row.reduce((sum, { task }) => sum + ratioOf(task), 0);
}

function ratioOf(task: Task): number {
  return task.width / task.height;
}

/** The settings of the videos side by side, with the differing ones marked. */
function Differences({ tasks }: { tasks: readonly Task[] }) {
  const text = useText();
  const { language } = useLanguage();
  const [onlyDifferences, setOnlyDifferences] = useState(false);
  const lists = tasks.map((task): Fact[] => [
    { name: text.gallery.prompt, value: task.prompt },
    { name: text.gallery.negative, value: task.negative_prompt },
    { name: text.gallery.facts.seed, value: String(task.seed) },
    ...settingsOf(text, language, task),
  ]);
  const differences = differing(lists);
  const names = [...new Set(lists.flatMap((list) => list.map(({ name }) => name)))];
  const shown = onlyDifferences ? names.filter((name) => differences.has(name)) : names;
  return (
    <div className="mt-6">
      <div className="mb-2 w-fit">
        <Switch
          label={text.gallery.onlyDifferences}
          checked={onlyDifferences}
          onChange={setOnlyDifferences}
        />
      </div>
      {shown.length === 0 && <p className="text-muted text-sm">{text.gallery.sameSettings}</p>}
      <div className="overflow-x-auto" hidden={shown.length === 0}>
        <table className="w-full min-w-120 table-fixed border-collapse text-sm">
          <thead>
            <tr className="text-left text-muted text-xs">
              <th scope="col" className="w-36 py-1.5 font-normal">
                {text.gallery.parameter}
              </th>
              {tasks.map((task, index) => (
                <th key={task.id} scope="col" className="px-2 py-1.5 font-normal">
                  {text.gallery.videoNumber(index + 1)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((name) => (
              <tr
                key={name}
                data-differs={differences.has(name) && !onlyDifferences}
                className="border-t align-top data-[differs=true]:bg-accent-soft"
              >
                <th scope="row" className="py-2 pl-2 text-left font-normal text-muted">
                  {name}
                  {differences.has(name) && <span className="sr-only"> ({text.gallery.differs})</span>}
                </th>
                {lists.map((list, index) => (
                  <td key={tasks[index]?.id} className="px-2 py-2 tabular wrap-anywhere">
                    <span className="line-clamp-6">
                      {list.find((found) => found.name === name)?.value || text.common.none}
                    </span>
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

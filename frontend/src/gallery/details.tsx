import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import {
  Dices,
  Download,
  FastForward,
  ImageDown,
  Link as LinkIcon,
  Scissors,
  SlidersHorizontal,
  Star,
  Trash2,
} from "lucide-react";
import { taskQuery } from "@/api/queries";
import type { Task, Video } from "@/api/types";
import { downloadAddress, lastFrameAddress } from "@/jobs/addresses";
import { useLanguage, useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { CopyButton, copyText } from "@/ui/copy";
import { cx } from "@/ui/cx";
import { ErrorNotice } from "@/ui/notices";
import { useToast } from "@/ui/toaster";
import { useVideoActions } from "./actions";
import { save } from "./downloads";
import { type Fact, makingOf, settingsOf } from "./facts";
import { InputFile } from "./input-file";
import { TagEditor } from "./tag-editor";

/** Everything about a video, and what can be done with it. */
export function Details({
  video,
  onDelete,
  onFavorite,
}: {
  video: Video;
  onDelete: () => void;
  onFavorite: () => void;
}) {
  const text = useText();
  const { language } = useLanguage();
  const task = useQuery(taskQuery(video.id));
  const { mark } = useVideoActions();
  return (
    <div className="flex flex-col gap-5">
      <Actions video={video} onDelete={onDelete} onFavorite={onFavorite} />
      <section aria-label={text.gallery.prompt}>
        <Heading aside={<CopyButton value={video.prompt} label={text.gallery.copyPrompt} />}>
          {text.gallery.prompt}
        </Heading>
        <p className="max-h-60 overflow-y-auto whitespace-pre-wrap text-sm leading-relaxed wrap-anywhere">
          {video.prompt}
        </p>
      </section>
      <section aria-label={text.gallery.tags}>
        <Heading>{text.gallery.tags}</Heading>
        <TagEditor tags={video.tags} onChange={(tags) => void mark([video], () => ({ tags }))} />
      </section>
      {task.data ? (
        <TaskDetails task={task.data} />
      ) : task.isPending ? (
        <div className="skeleton h-64" />
      ) : (
        <ErrorNotice error={task.error} onRetry={() => void task.refetch()} />
      )}
      <section>
        <Heading>{text.gallery.made}</Heading>
        <Facts facts={makingOf(text, language, video, task.data)} />
      </section>
    </div>
  );
}

function Actions({ video, onDelete, onFavorite }: Parameters<typeof Details>[0]) {
  const text = useText();
  const toast = useToast();
  const { again } = useVideoActions();
  const { id } = video;
  const copyLink = async () => {
    const link = `${location.href.split("#")[0]}#/gallery?video=${id}`;
    const copied = await copyText(link);
    toast({
      title: copied ? text.gallery.linkCopied : text.gallery.copyFailed,
      ...(copied ? {} : { tone: "bad" }),
    });
  };
  return (
    <div className="flex flex-col gap-2">
      <Button asChild look="primary">
        <Link to="/" search={{ from: id }}>
          <SlidersHorizontal aria-hidden />
          {text.gallery.reuse}
        </Link>
      </Button>
      <div className="grid grid-cols-2 gap-2">
        <Button asChild>
          <Link to="/" search={{ continue: id }}>
            <FastForward aria-hidden />
            {text.gallery.continue}
          </Link>
        </Button>
        <Button asChild>
          <Link to="/" search={{ edit: id }}>
            <Scissors aria-hidden />
            {text.gallery.edit}
          </Link>
        </Button>
      </div>
      <div className="flex items-center gap-0.5">
        <Button look="quiet" className="mr-auto px-2!" onClick={() => void again(id)}>
          <Dices aria-hidden />
          {text.gallery.again}
        </Button>
        <IconButton
          label={video.favorite ? text.gallery.removeFavorite : text.gallery.addFavorite}
          aria-pressed={video.favorite}
          onClick={onFavorite}
          className={cx(video.favorite && "text-accent-text!")}
        >
          <Star className={cx(video.favorite && "fill-current")} />
        </IconButton>
        <IconButton label={text.gallery.copyLink} onClick={() => void copyLink()}>
          <LinkIcon />
        </IconButton>
        <IconButton
          label={text.gallery.saveLastFrame}
          onClick={() => save(lastFrameAddress(id), `${id}.png`)}
        >
          <ImageDown />
        </IconButton>
        <IconButton label={text.gallery.download} onClick={() => save(downloadAddress(id), video.filename)}>
          <Download />
        </IconButton>
        <IconButton label={text.common.delete} onClick={onDelete} className="hover:text-bad!">
          <Trash2 />
        </IconButton>
      </div>
    </div>
  );
}

function TaskDetails({ task }: { task: Task }) {
  const text = useText();
  const { language } = useLanguage();
  const inputs = [
    { label: text.gallery.firstFrame, id: task.image_path },
    { label: text.gallery.lastFrame, id: task.end_image_path },
    { label: text.gallery.inputVideo, id: task.video_path },
  ];
  const hasInputs = inputs.some(({ id }) => id !== null) || task.source_task_id !== null;
  return (
    <>
      {task.segments.length > 0 && (
        <ol className="flex flex-col gap-2 text-sm">
          {task.segments.map((segment, index) => (
            <li key={index}>
              <span className="text-muted text-xs">{text.gallery.part(index + 1)}</span>
              <p className="wrap-anywhere">{segment.prompt}</p>
            </li>
          ))}
        </ol>
      )}
      {task.negative_prompt && (
        <section>
          <Heading>{text.gallery.negative}</Heading>
          <p className="line-clamp-4 text-muted text-sm wrap-anywhere hover:line-clamp-none">
            {task.negative_prompt}
          </p>
        </section>
      )}
      {hasInputs && (
        <section>
          <Heading>{text.gallery.inputs}</Heading>
          <div className="flex flex-wrap gap-3">
            {inputs.map(({ id, label }) => id && <InputFile key={label} id={id} label={label} />)}
          </div>
          {task.source_task_id && (
            <Link
              to="/gallery"
              search={{ video: task.source_task_id }}
              resetScroll={false}
              className="mt-2 inline-block text-accent-text text-sm hover:underline"
            >
              {text.gallery.source}
            </Link>
          )}
        </section>
      )}
      <section>
        <Heading>{text.gallery.settings}</Heading>
        <div className="mb-1.5 flex items-center justify-between text-sm">
          <span className="text-muted">{text.gallery.facts.seed}</span>
          <span className="flex items-center gap-1 tabular">
            {task.seed}
            <CopyButton value={String(task.seed)} label={text.gallery.copySeed} />
          </span>
        </div>
        <Facts facts={settingsOf(text, language, task)} />
      </section>
    </>
  );
}

function Facts({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1.5 text-sm">
      {facts.map(({ name, value }) => (
        <div key={name} className="contents">
          <dt className="text-muted">{name}</dt>
          <dd className="text-right tabular wrap-anywhere">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Heading({ children, aside }: { children: string; aside?: React.ReactNode }) {
  return (
    <div className="mb-1.5 flex min-h-7 items-center justify-between gap-2">
      <h2 className="font-medium text-sm">{children}</h2>
      {aside}
    </div>
  );
}

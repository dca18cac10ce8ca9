import { Columns2, Download, Star, Tag, Trash2, X } from "lucide-react";
import { useState } from "react";
import type { Video } from "@/api/types";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { Dialog } from "@/ui/dialog";
import { downloadVideos } from "./downloads";
import { TagEditor } from "./tag-editor";

export const MOST_COMPARED = 4;

/** Actions on the selected videos, at the lower edge of the page. */
export function SelectionBar({
  ids,
  videos,
  onSelectAll,
  onClear,
  onCompare,
  onMark,
  onDelete,
}: {
  ids: ReadonlySet<string>;
  /** The selected videos that are loaded. */
  videos: readonly Video[];
  onSelectAll: () => void;
  onClear: () => void;
  onCompare: (ids: readonly string[]) => void;
  onMark: (
    videos: readonly Video[],
    marks: (video: Video) => { favorite?: boolean; tags?: string[] },
  ) => void;
  onDelete: (ids: readonly string[]) => void;
}) {
  const text = useText();
  const [isTagging, setTagging] = useState(false);
  const all = [...ids];
  const areFavorites = videos.length > 0 && videos.every((video) => video.favorite);
  const canCompare = all.length >= 2 && all.length <= MOST_COMPARED;
  const shared = (videos[0]?.tags ?? []).filter((tag) => videos.every((video) => video.tags.includes(tag)));
  const retag = (next: readonly string[]) => {
    const removed = shared.filter((tag) => !next.includes(tag));
    onMark(videos, (video) => ({
      tags: [...new Set([...video.tags, ...next])].filter((tag) => !removed.includes(tag)),
    }));
  };
  return (
    <div
      role="toolbar"
      aria-label={text.gallery.selected(ids.size)}
      className="appear fixed inset-x-3 bottom-19 z-30 mx-auto flex w-fit max-w-[calc(100%-1.5rem)] flex-wrap items-center justify-center gap-1 rounded-lg border bg-raised p-1.5 shadow-lift md:bottom-5"
    >
      <IconButton label={text.gallery.clearSelection} onClick={onClear}>
        <X />
      </IconButton>
      <span aria-live="polite" className="whitespace-nowrap pr-2 text-sm tabular">
        {text.gallery.selected(ids.size)}
      </span>
      <Button look="quiet" onClick={onSelectAll}>
        {text.gallery.selectAll}
      </Button>
      <span aria-hidden className="mx-1 h-5 w-px shrink-0 bg-line max-sm:hidden" />
      <IconButton
        label={areFavorites ? text.gallery.removeFavorite : text.gallery.addFavorite}
        onClick={() => onMark(videos, () => ({ favorite: !areFavorites }))}
      >
        <Star className={areFavorites ? "fill-current" : ""} />
      </IconButton>
      <IconButton label={text.gallery.tags} onClick={() => setTagging(true)}>
        <Tag />
      </IconButton>
      <IconButton label={text.gallery.download} onClick={() => void downloadVideos(all)}>
        <Download />
      </IconButton>
      <Button
        look="quiet"
        disabled={!canCompare}
        title={canCompare ? undefined : text.gallery.compareHint}
        onClick={() => onCompare(all)}
      >
        <Columns2 aria-hidden />
        <span className="max-sm:sr-only">{text.gallery.compare}</span>
      </Button>
      <IconButton label={text.common.delete} onClick={() => onDelete(all)} className="text-bad!">
        <Trash2 />
      </IconButton>
      <Dialog
        open={isTagging}
        onOpenChange={setTagging}
        title={text.gallery.tags}
        description={text.gallery.selected(ids.size)}
      >
        <TagEditor tags={shared} onChange={retag} />
      </Dialog>
    </div>
  );
}

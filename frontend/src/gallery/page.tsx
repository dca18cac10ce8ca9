/** All finished videos: found, watched, compared, reused and deleted. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { Clapperboard, SearchX } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { Video } from "@/api/types";
import type { GallerySearch } from "@/router";
import { PageHead } from "@/shell/shell";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { cx } from "@/ui/cx";
import { EmptyState, ErrorNotice } from "@/ui/notices";
import { useFailureToast } from "@/ui/toaster";
import { useVideoActions } from "./actions";
import { Compare } from "./compare";
import { FilterBar } from "./filter-bar";
import { type Filters, filtersOf, isFiltered } from "./filters";
import { Grid, SkeletonRow } from "./grid";
import { videosQuery } from "./queries";
import { useSelection } from "./selection";
import { MOST_COMPARED, SelectionBar } from "./selection-bar";
import { Viewer } from "./viewer";

const route = getRouteApi("/gallery");

export function GalleryPage() {
  const text = useText();
  const fail = useFailureToast();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const filters = useMemo(() => filtersOf(search), [search]);
  const list = useInfiniteQuery(videosQuery(filters));
  const videos = useMemo(() => list.data?.pages.flatMap((page) => page.videos) ?? [], [list.data]);
  const ids = useMemo(() => videos.map((video) => video.id), [videos]);
  const selection = useSelection(ids);
  const { mark, remove } = useVideoActions();
  const [focusId, setFocusId] = useState<string | null>(null);
  const totals = list.data?.pages.at(-1);

  const change = useCallback(
    (changes: GallerySearch, replace = false) =>
      void navigate({
        search: (known) => withoutEmpty({ ...known, ...changes }),
        replace,
        resetScroll: false,
      }),
    [navigate],
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: another list has other videos to select
  useEffect(() => selection.clear(), [filters, selection.clear]);

  const { fetchNextPage, isFetchingNextPage } = list;
  const loadMore = useCallback(() => {
    if (!isFetchingNextPage) void fetchNextPage({ cancelRefetch: false });
  }, [fetchNextPage, isFetchingNextPage]);
  const favorite = useCallback(
    (video: Video) => void mark([video], () => ({ favorite: !video.favorite })),
    [mark],
  );
  const shownFilters = useRef(filters);
  shownFilters.current = filters;
  const selectAll = async () => {
    let loaded: Pick<typeof list, "data" | "hasNextPage" | "error"> = list;
    while (loaded.hasNextPage && !loaded.error) loaded = await fetchNextPage({ cancelRefetch: false });
    if (loaded.error) {
      fail(loaded.error);
    } else if (shownFilters.current === filters) {
      selection.replace(loaded.data?.pages.flatMap((page) => page.videos.map((video) => video.id)) ?? []);
    }
  };
  const deleteVideos = (gone: readonly string[]) => {
    selection.clear();
    void remove(gone);
  };

  const at = search.video ? ids.indexOf(search.video) : -1;
  const [previous, next] = at < 0 ? [] : [ids[at - 1], ids[at + 1]];
  useEffect(() => {
    if (at >= 0 && at >= ids.length - 2 && list.hasNextPage) loadMore();
  }, [at, ids.length, list.hasNextPage, loadMore]);
  const closeViewer = () => {
    setFocusId(search.video ?? null);
    change({ video: "" });
  };
  const compared = search.compare?.split(",").filter(Boolean).slice(0, MOST_COMPARED) ?? [];

  return (
    <>
      <PageHead
        title={text.gallery.title}
        aside={totals && text.gallery.totals(totals.total_count, text.common.size(totals.total_size_mb))}
      />
      <div className="page-width flex flex-1 flex-col gap-4 pb-24">
        <FilterBar filters={filters} onChange={(changes: Filters) => change(changes, true)} />
        {list.error && <ErrorNotice error={list.error} onRetry={() => void list.refetch()} />}
        {list.isPending ? (
          <Skeletons />
        ) : videos.length > 0 ? (
          <div className={cx("transition-opacity", list.isPlaceholderData && "opacity-50")}>
            <Grid
              videos={videos}
              total={totals?.total_count ?? 0}
              hasMore={list.hasNextPage}
              onMore={loadMore}
              selection={selection}
              focusId={search.video ? null : focusId}
              onFocused={() => setFocusId(null)}
              onFavorite={favorite}
              onSelectAll={() => void selectAll()}
              onDelete={deleteVideos}
            />
          </div>
        ) : (
          list.isSuccess && <Nothing isFiltered={isFiltered(filters)} />
        )}
      </div>
      {selection.ids.size > 0 && (
        <SelectionBar
          ids={selection.ids}
          videos={videos.filter((video) => selection.ids.has(video.id))}
          onSelectAll={() => void selectAll()}
          onClear={selection.clear}
          onCompare={(chosen) => change({ compare: chosen.join(",") })}
          onMark={(chosen, marks) => void mark(chosen, marks)}
          onDelete={deleteVideos}
        />
      )}
      {search.video && (
        <Viewer
          id={search.video}
          listed={videos[at]}
          previous={previous}
          next={next}
          onShow={(id) => change({ video: id }, true)}
          onClose={closeViewer}
          onFavorite={favorite}
          onDelete={(id) => {
            setFocusId(next ?? previous ?? null);
            change({ video: next ?? previous ?? "" }, true);
            deleteVideos([id]);
          }}
        />
      )}
      {compared.length > 1 && <Compare ids={compared} onClose={() => change({ compare: "" })} />}
    </>
  );
}

function Nothing({ isFiltered: hasFilters }: { isFiltered: boolean }) {
  const text = useText();
  if (hasFilters) {
    return (
      <EmptyState
        icon={<SearchX />}
        title={text.gallery.nothingFound}
        hint={text.gallery.nothingFoundHint}
        action={
          <Button asChild>
            <Link to="/gallery">{text.gallery.clearFilters}</Link>
          </Button>
        }
      />
    );
  }
  return (
    <EmptyState
      icon={<Clapperboard />}
      title={text.gallery.empty}
      hint={text.gallery.emptyHint}
      action={
        <Button asChild look="primary">
          <Link to="/">{text.errors.toCreate}</Link>
        </Button>
      }
    />
  );
}

/** The shape of the grid while its first page loads. */
function Skeletons() {
  const text = useText();
  return (
    <div aria-busy className="relative">
      <span className="sr-only">{text.common.loading}</span>
      {[0, 1, 2].map((row) => (
        <SkeletonRow key={row} style={{ transform: `translateY(${row * 208}px)`, height: 200 }} />
      ))}
    </div>
  );
}

function withoutEmpty(search: GallerySearch): GallerySearch {
  return Object.fromEntries(Object.entries(search).filter(([, value]) => value));
}

/** The pages and their addresses, in the URL's fragment: the service knows one file, below any prefix. */
import {
  createHashHistory,
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
} from "@tanstack/react-router";
import { CreatePage } from "./create/page";
import { CrashPage, MissingPage } from "./shell/failure";
import { Shell } from "./shell/shell";

const root = createRootRoute({ component: Shell, notFoundComponent: MissingPage, errorComponent: CrashPage });

/** Source of the form's values: the settings of a job, or a video that it continues or edits. */
export type CreateSearch = { from?: string; continue?: string; edit?: string };
const create = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: CreatePage,
  validateSearch: (search): CreateSearch => pick(search, ["from", "continue", "edit"]),
});
const queue = createRoute({
  getParentRoute: () => root,
  path: "/queue",
  component: lazyRouteComponent(() => import("./queue/page"), "QueuePage"),
});

/** The open video, the videos that are compared, and the conditions on the list. */
export type GallerySearch = { [name in (typeof GALLERY_SEARCH)[number]]?: string };
const GALLERY_SEARCH = [
  "video",
  "compare",
  "query",
  "model",
  "shape",
  "kind",
  "favorite",
  "tag",
  "from",
  "to",
  "order",
] as const;
const gallery = createRoute({
  getParentRoute: () => root,
  path: "/gallery",
  component: lazyRouteComponent(() => import("./gallery/page"), "GalleryPage"),
  validateSearch: (search): GallerySearch => pick(search, GALLERY_SEARCH),
});
const models = createRoute({
  getParentRoute: () => root,
  path: "/models",
  component: lazyRouteComponent(() => import("./models/page"), "ModelsPage"),
});
const system = createRoute({
  getParentRoute: () => root,
  path: "/system",
  component: lazyRouteComponent(() => import("./system/page"), "SystemPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([create, queue, gallery, models, system]),
  history: createHashHistory(),
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

function pick<K extends string>(
  search: Record<string, unknown>,
  names: readonly K[],
): { [name in K]?: string } {
  // The router reads a search like `?query=12` as a number.
  const given = names.filter((name) => ["string", "number", "boolean"].includes(typeof search[name]));
  return Object.fromEntries(given.map((name) => [name, String(search[name])])) as {
    [name in K]?: string;
  };
}

/** The frame around every page: navigation, state of the connection, settings. */
import { Link, Outlet, useNavigate } from "@tanstack/react-router";
import { Activity, Boxes, Clapperboard, Keyboard, LayoutGrid, ListVideo, Settings2 } from "lucide-react";
import { useMemo, useState } from "react";
import { useText } from "@/text";
import { IconButton } from "@/ui/button";
import icon from "../icon.svg";
import { Banners } from "./banners";
import { Help } from "./help";
import { QueueBadge } from "./queue-badge";
import { SettingsMenu } from "./settings-menu";
import { useShortcuts } from "./shortcuts";

export const PAGES = [
  { to: "/", name: "create", icon: Clapperboard },
  { to: "/queue", name: "queue", icon: ListVideo },
  { to: "/gallery", name: "gallery", icon: LayoutGrid },
  { to: "/models", name: "models", icon: Boxes },
  { to: "/system", name: "system", icon: Activity },
] as const;

export function Shell() {
  const text = useText();
  const navigate = useNavigate();
  const [helpOpen, setHelpOpen] = useState(false);
  const shortcuts = useMemo(
    () => [
      ...PAGES.map((page, index) => ({ key: String(index + 1), run: () => void navigate({ to: page.to }) })),
      { key: "?", run: () => setHelpOpen(true) },
      {
        key: "/",
        run: () => {
          void navigate({ to: "/" }).then(() => document.getElementById("prompt")?.focus());
        },
      },
    ],
    [navigate],
  );
  useShortcuts(shortcuts);
  return (
    <div className="flex min-h-dvh flex-col md:flex-row">
      <button
        type="button"
        onClick={() => document.getElementById("main")?.focus()}
        className="sr-only z-50 rounded-md bg-accent px-3 py-2 text-on-accent focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
      >
        {text.common.skip}
      </button>
      <header className="sticky top-0 z-30 flex h-14 items-center justify-between border-b bg-page px-4 md:h-dvh md:w-16 md:flex-col md:items-stretch md:border-r md:border-b-0 md:px-2 md:py-4 xl:w-52 xl:px-3">
        <div className="flex items-center gap-2.5 md:justify-center xl:justify-start xl:px-2">
          <img src={icon} alt="" className="size-7" />
          <span className="font-semibold md:sr-only xl:not-sr-only">{text.app}</span>
        </div>
        <nav
          aria-label={text.nav.label}
          className="fixed inset-x-0 bottom-0 z-30 flex justify-around border-t bg-page pb-[env(safe-area-inset-bottom)] md:static md:mt-6 md:flex-1 md:flex-col md:justify-start md:gap-1 md:border-0"
        >
          {PAGES.map((page) => (
            <Link
              key={page.to}
              to={page.to}
              activeOptions={{ exact: page.to === "/" }}
              className="relative flex flex-1 flex-col items-center gap-0.5 rounded-md px-2 py-2 text-xs text-muted transition-colors hover:text-text md:flex-none md:py-2.5 xl:flex-row xl:gap-3 xl:px-3 xl:py-2 xl:text-sm"
              activeProps={{ className: "text-text! md:bg-sunken font-medium" }}
            >
              <page.icon aria-hidden className="size-5 xl:size-4.5" strokeWidth={1.75} />
              {text.nav[page.name]}
              {page.name === "queue" && <QueueBadge />}
            </Link>
          ))}
        </nav>
        <div className="flex items-center gap-1 md:flex-col xl:flex-row xl:px-1">
          <IconButton
            label={text.shell.help}
            onClick={() => setHelpOpen(true)}
            className="hidden md:inline-flex"
          >
            <Keyboard />
          </IconButton>
          <SettingsMenu
            trigger={
              <IconButton label={text.shell.settings}>
                <Settings2 />
              </IconButton>
            }
          />
        </div>
      </header>
      <div className="flex min-w-0 flex-1 flex-col pb-16 md:pb-0">
        <Banners />
        <main id="main" tabIndex={-1} className="flex min-w-0 flex-1 flex-col outline-none">
          <Outlet />
        </main>
      </div>
      <Help open={helpOpen} onOpenChange={setHelpOpen} />
    </div>
  );
}

/** The head of a page: its title, and what can be done with the whole page. */
export function PageHead({
  title,
  aside,
  children,
}: {
  title: string;
  aside?: React.ReactNode;
  children?: React.ReactNode;
}) {
  return (
    <div className="page-width flex min-h-16 flex-wrap items-center gap-x-4 gap-y-2 pt-5 pb-4">
      <h1 className="text-xl font-semibold tracking-tight">{title}</h1>
      {aside && <div className="text-sm text-muted tabular">{aside}</div>}
      <div className="ml-auto flex flex-wrap items-center gap-2">{children}</div>
    </div>
  );
}

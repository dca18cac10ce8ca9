import { useQuery } from "@tanstack/react-query";
import { ExternalLink } from "lucide-react";
import { useState } from "react";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { CopyButton } from "@/ui/copy";
import { Dialog } from "@/ui/dialog";
import { dashboardQuery } from "./queries";

const TOKEN_COMMAND = "ray get-auth-token";

/** The way to Ray's dashboard, which listens on the service's machine only and asks for a token of its own. */
export function Dashboard() {
  const text = useText();
  const [open, setOpen] = useState(false);
  const { data } = useQuery(dashboardQuery);
  if (!data?.url) return null;
  const { host, port } = new URL(data.url);
  const tunnel = `ssh -L ${port}:${host} ${location.hostname}`;
  return (
    <>
      <Button onClick={() => setOpen(true)}>
        <ExternalLink aria-hidden />
        {text.system.dashboard}
      </Button>
      <Dialog
        open={open}
        onOpenChange={setOpen}
        title={text.system.dashboard}
        description={text.system.dashboardHint}
      >
        <ol className="flex list-decimal flex-col gap-3 pl-5 text-sm">
          <li>
            {text.system.dashboardTunnel}
            <Command value={tunnel} />
          </li>
          {data.needs_token && (
            <li>
              {text.system.dashboardToken}
              <Command value={TOKEN_COMMAND} />
            </li>
          )}
          <li>
            <a
              href={data.url}
              target="_blank"
              rel="noreferrer"
              className="text-accent-text underline underline-offset-2"
            >
              {text.system.dashboardOpen(data.url)}
            </a>
          </li>
        </ol>
      </Dialog>
    </>
  );
}

function Command({ value }: { value: string }) {
  const text = useText();
  return (
    <span className="mt-1 flex items-center justify-between gap-2 rounded-md bg-sunken py-1 pr-1 pl-3">
      <code className="font-mono text-xs wrap-anywhere">{value}</code>
      <CopyButton value={value} label={text.common.copy} />
    </span>
  );
}

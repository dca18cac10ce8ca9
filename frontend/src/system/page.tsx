/** The state of the service and its machine, and what administrators change there. */
import { BookOpen } from "lucide-react";
import { addressOf } from "@/api/client";
import { useSession } from "@/session/session";
import { PageHead } from "@/shell/shell";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Dashboard } from "./dashboard";
import { HealthCard } from "./health";
import { HistoryCharts } from "./history";
import { Keys } from "./keys";
import { Meters } from "./meters";
import { Replicas } from "./replicas";
import { ServiceSettings } from "./service-settings";
import { Usage } from "./usage";
import { Webhooks } from "./webhooks";

export function SystemPage() {
  const text = useText();
  const { can, needsKey } = useSession();
  return (
    <>
      <PageHead title={text.system.title}>
        {can("admin") && <Dashboard />}
        <Button asChild>
          <a href={addressOf("/docs")} target="_blank" rel="noreferrer">
            <BookOpen aria-hidden />
            {text.system.docs}
          </a>
        </Button>
      </PageHead>
      <div className="page-width flex flex-col gap-10 pb-12">
        <div className="flex flex-col gap-4">
          <HealthCard />
          <Meters />
        </div>
        <HistoryCharts />
        <Replicas />
        <Usage />
        <ServiceSettings />
        {needsKey && can("admin") && <Keys />}
        <Webhooks />
      </div>
    </>
  );
}

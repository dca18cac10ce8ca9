import { useQuery } from "@tanstack/react-query";
import { Boxes } from "lucide-react";
import { modelStatusQuery } from "@/api/queries";
import type { ModelStatus } from "@/api/types";
import { useTopic } from "@/live/provider";
import { NeedsScope } from "@/session/needs-scope";
import { useText } from "@/text";
import { EmptyState, ErrorNotice } from "@/ui/notices";
import { ModelCard } from "./model-card";

const BUSY_MS = 1_500;
const IDLE_MS = 15_000;

export function ModelList() {
  const text = useText();
  useTopic("model_status");
  useTopic("download_progress");
  const { data, error, refetch } = useQuery({
    ...modelStatusQuery,
    refetchInterval: (query) => (Object.values(query.state.data ?? {}).some(isBusy) ? BUSY_MS : IDLE_MS),
  });
  const models = data && Object.values(data);
  return (
    <section aria-labelledby="models-heading" className="flex flex-col gap-4">
      <h2 id="models-heading" className="sr-only">
        {text.models.models}
      </h2>
      <NeedsScope scope="admin" />
      {error && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!data && !error && <Skeletons />}
      {models?.length === 0 && (
        <EmptyState icon={<Boxes />} title={text.models.noModels} hint={text.models.noModelsHint} />
      )}
      {models && models.length > 0 && (
        <ul className="grid gap-4 md:grid-cols-2 2xl:grid-cols-3">
          {models.map((model) => (
            <ModelCard key={model.model_id} model={model} />
          ))}
        </ul>
      )}
    </section>
  );
}

function isBusy(model: ModelStatus): boolean {
  return model.status === "downloading" || model.verification_progress !== null;
}

function Skeletons() {
  const text = useText();
  return (
    <div className="grid gap-4 md:grid-cols-2 2xl:grid-cols-3" role="status" aria-label={text.common.loading}>
      {["a", "b", "c"].map((key) => (
        <div key={key} className="skeleton h-44 rounded-lg" />
      ))}
    </div>
  );
}

import { useQuery } from "@tanstack/react-query";
import { Layers } from "lucide-react";
import { lorasQuery } from "@/api/queries";
import { useSession } from "@/session/session";
import { useText } from "@/text";
import { EmptyState, ErrorNotice } from "@/ui/notices";
import { LoraRow } from "./lora-row";
import { LoraUploadBox } from "./lora-upload";

export function LoraList() {
  const text = useText();
  const { can } = useSession();
  const { data, error, refetch } = useQuery(lorasQuery);
  return (
    <section aria-labelledby="loras-heading" className="flex flex-col gap-4">
      <div className="flex flex-wrap items-baseline justify-between gap-x-4 gap-y-2">
        <h2 id="loras-heading" className="text-lg font-semibold">
          {text.models.loras}
        </h2>
        {data && data.total_count > 0 && (
          <p className="text-sm text-muted tabular">
            {text.models.loraCount(data.total_count, text.common.size(data.total_size_mb))}
          </p>
        )}
      </div>
      {can("admin") && <LoraUploadBox />}
      {error && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!data && !error && (
        <div role="status" aria-label={text.common.loading} className="flex flex-col gap-px">
          {["a", "b", "c"].map((key) => (
            <div key={key} className="skeleton h-20 rounded-lg" />
          ))}
        </div>
      )}
      {data?.total_count === 0 && (
        <EmptyState icon={<Layers />} title={text.models.noLoras} hint={text.models.noLorasHint} />
      )}
      {data && data.total_count > 0 && (
        <ul className="divide-y rounded-lg border bg-surface">
          {data.loras.map((lora) => (
            <LoraRow key={lora.name} lora={lora} />
          ))}
        </ul>
      )}
    </section>
  );
}

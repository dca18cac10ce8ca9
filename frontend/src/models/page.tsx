/** The models and the LoRAs: what is on the disk, what is loaded, and what can be done about it. */
import { useQuery } from "@tanstack/react-query";
import { healthQuery } from "@/api/queries";
import { PageHead } from "@/shell/shell";
import { useText } from "@/text";
import { LoraList } from "./lora-list";
import { ModelList } from "./model-list";

export function ModelsPage() {
  const text = useText();
  const disk = useQuery(healthQuery).data?.system_info;
  const hasDisk = typeof disk?.disk_free_gb === "number" && typeof disk.disk_total_gb === "number";
  return (
    <>
      <PageHead
        title={text.models.title}
        aside={
          hasDisk &&
          text.models.free(
            text.common.size((disk.disk_free_gb ?? 0) * 1000),
            text.common.size((disk.disk_total_gb ?? 0) * 1000),
          )
        }
      />
      <div className="page-width flex flex-col gap-10 pb-12">
        <ModelList />
        <LoraList />
      </div>
    </>
  );
}

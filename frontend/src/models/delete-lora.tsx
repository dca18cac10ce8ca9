import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { lorasQuery } from "@/api/queries";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { Dialog } from "@/ui/dialog";
import { ErrorNotice } from "@/ui/notices";

export function DeleteLora({
  name,
  open,
  onOpenChange,
}: {
  name: string;
  open: boolean;
  onOpenChange: (open: boolean) => void;
}) {
  const text = useText();
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: () => data(api.DELETE("/api/v1/lora/{name}", { params: { path: { name } } })),
    onSuccess: async () => {
      onOpenChange(false);
      await client.invalidateQueries(lorasQuery);
    },
  });
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={text.models.deleteLora(name)}
      description={text.models.deleteLoraHint}
    >
      <div className="flex flex-col gap-4">
        {remove.error && <ErrorNotice error={remove.error} />}
        <div className="flex justify-end gap-2">
          <Button onClick={() => onOpenChange(false)}>{text.common.cancel}</Button>
          <Button look="danger" onClick={() => remove.mutate()} disabled={remove.isPending}>
            {text.common.delete}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

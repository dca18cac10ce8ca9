import type { NewKey } from "@/api/types";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { CopyButton } from "@/ui/copy";
import { Dialog } from "@/ui/dialog";

/** A new key, the only time that it can be seen. */
export function ShownKey({ item, onClose }: { item: NewKey | null; onClose: () => void }) {
  const text = useText();
  if (!item) return null;
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onClose()}
      title={text.system.newKey(item.owner)}
      description={text.system.newKeyHint}
    >
      <div className="flex flex-col gap-4">
        <div className="flex items-start gap-2 rounded-md bg-sunken p-3">
          <code className="min-w-0 flex-1 font-mono text-sm break-all">{item.key}</code>
          <CopyButton value={item.key} label={text.system.copyKey} />
        </div>
        <div className="flex justify-end">
          <Button look="primary" onClick={onClose}>
            {text.system.keyStored}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

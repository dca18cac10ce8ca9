/** Named settings of the whole form, which this browser keeps. Inputs and prompts stay as they are. */
import { Bookmark, BookmarkPlus, RotateCcw, Trash2 } from "lucide-react";
import { useState } from "react";
import { recall, remember } from "@/shell/memory";
import { useText } from "@/text";
import { Button, IconButton } from "@/ui/button";
import { Dialog } from "@/ui/dialog";
import { Field, Input } from "@/ui/field";
import { Menu, MenuItem, MenuSeparator } from "@/ui/menu";
import { EMPTY_FORM, type FormValues, formSchema } from "./form";
import { useCreateForm } from "./state";

const KEPT = ["prompt", "segments", "isStoryboard", "firstFrame", "lastFrame", "video"] as const;
type Presets = Record<string, Partial<FormValues>>;

export function PresetsMenu() {
  const text = useText();
  const form = useCreateForm();
  const [presets, setPresets] = useState<Presets>(() => recall<Presets>("presets") ?? {});
  const [isNaming, setIsNaming] = useState(false);
  const change = (next: Presets) => {
    setPresets(next);
    remember("presets", next);
  };
  const apply = (preset: Partial<FormValues>) => {
    const kept = Object.fromEntries(KEPT.map((name) => [name, form.getValues(name)]));
    const parsed = formSchema.safeParse({ ...EMPTY_FORM, ...preset, ...kept });
    if (parsed.success) form.reset(parsed.data);
  };
  return (
    <>
      <Menu
        trigger={
          <IconButton label={text.create.formPresets}>
            <Bookmark />
          </IconButton>
        }
      >
        {Object.entries(presets).map(([name, preset]) => (
          <div key={name} className="flex items-center">
            <MenuItem className="flex-1" onSelect={() => apply(preset)}>
              {name}
            </MenuItem>
            <MenuItem
              aria-label={text.create.deletePreset(name)}
              onSelect={(event) => {
                event.preventDefault();
                change(Object.fromEntries(Object.entries(presets).filter(([other]) => other !== name)));
              }}
            >
              <Trash2 />
            </MenuItem>
          </div>
        ))}
        {Object.keys(presets).length > 0 && <MenuSeparator />}
        <MenuItem onSelect={() => setIsNaming(true)}>
          <BookmarkPlus />
          {text.create.savePreset}
        </MenuItem>
        <MenuItem onSelect={() => form.reset(EMPTY_FORM)}>
          <RotateCcw />
          {text.create.clear}
        </MenuItem>
      </Menu>
      <NameDialog
        open={isNaming}
        onOpenChange={setIsNaming}
        onSave={(name) => {
          const values = form.getValues();
          const settings = Object.entries(values).filter(
            ([key]) => !(KEPT as readonly string[]).includes(key),
          );
          change({ ...presets, [name]: Object.fromEntries(settings) as Partial<FormValues> });
        }}
      />
    </>
  );
}

function NameDialog({
  open,
  onOpenChange,
  onSave,
}: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  onSave: (name: string) => void;
}) {
  const text = useText();
  const [name, setName] = useState("");
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title={text.create.savePreset}>
      <form
        className="flex items-end gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          event.stopPropagation();
          onSave(name.trim());
          setName("");
          onOpenChange(false);
        }}
      >
        <Field label={text.create.presetName} className="flex-1">
          {(props) => (
            <Input {...props} value={name} maxLength={60} onChange={(event) => setName(event.target.value)} />
          )}
        </Field>
        <Button type="submit" look="primary" disabled={!name.trim()}>
          {text.common.save}
        </Button>
      </form>
    </Dialog>
  );
}

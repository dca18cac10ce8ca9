import { useText } from "@/text";
import { Dialog } from "@/ui/dialog";

export function Help({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const text = useText();
  const { shortcuts } = text.shell;
  const rows: [string[], string][] = [
    [["1", "2", "3", "4", "5"], shortcuts.pages],
    [["/"], shortcuts.prompt],
    [["Ctrl", "Enter"], shortcuts.generate],
    [["?"], shortcuts.help],
    [["Esc"], shortcuts.close],
    [["←", "→", "↑", "↓"], text.gallery.keys.move],
    [["Enter"], text.gallery.keys.open],
    [["Space"], text.gallery.keys.select],
    [["Ctrl", "A"], text.gallery.keys.all],
    [["F"], text.gallery.keys.favorite],
    [["Del"], text.gallery.keys.delete],
  ];
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title={shortcuts.title}>
      <dl className="grid grid-cols-[auto_1fr] items-center gap-x-6 gap-y-3 text-sm">
        {rows.map(([keys, meaning]) => (
          <div key={meaning} className="contents">
            <dt className="flex gap-1">
              {keys.map((key) => (
                <kbd
                  key={key}
                  className="min-w-6 rounded-sm border border-b-2 bg-raised px-1.5 py-0.5 text-center font-mono text-xs"
                >
                  {key}
                </kbd>
              ))}
            </dt>
            <dd className="text-muted">{meaning}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

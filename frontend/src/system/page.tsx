import { PageHead } from "@/shell/shell";
import { useText } from "@/text";

export function SystemPage() {
  const text = useText();
  return <PageHead title={text.system.title} />;
}

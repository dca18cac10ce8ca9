import { PageHead } from "@/shell/shell";
import { useText } from "@/text";

export function ModelsPage() {
  const text = useText();
  return <PageHead title={text.models.title} />;
}

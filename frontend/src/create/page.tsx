import { PageHead } from "@/shell/shell";
import { useText } from "@/text";

export function CreatePage() {
  const text = useText();
  return <PageHead title={text.create.title} />;
}

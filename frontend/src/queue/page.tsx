import { PageHead } from "@/shell/shell";
import { useText } from "@/text";

export function QueuePage() {
  const text = useText();
  return <PageHead title={text.queue.title} />;
}

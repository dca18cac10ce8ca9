import { PageHead } from "@/shell/shell";
import { useText } from "@/text";

export function GalleryPage() {
  const text = useText();
  return <PageHead title={text.gallery.title} />;
}

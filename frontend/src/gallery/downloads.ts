/** Downloads of several files, which browsers start one by one. */
import { downloadAddress } from "@/jobs/addresses";

const PAUSE_MS = 250;

/** Saves videos as files. The browser asks once whether the page may save several. */
export async function downloadVideos(ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    save(downloadAddress(id), `${id}.mp4`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

/** Saves the file of an address under a name. */
export function save(address: string, name: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}

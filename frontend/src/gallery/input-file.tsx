import { useState } from "react";
import { uploadAddress } from "@/jobs/addresses";

/** An image or a video that a job was made from. Its id does not tell which, so an image that fails is a video. */
export function InputFile({ id, label }: { id: string; label: string }) {
  const [isVideo, setVideo] = useState(false);
  const address = uploadAddress(id);
  const look = "h-20 w-auto min-w-12 max-w-40 rounded-md bg-sunken object-contain";
  return (
    <figure>
      {isVideo ? (
        <video src={address} aria-label={label} muted loop playsInline controls className={look} />
      ) : (
        <img src={address} alt={label} onError={() => setVideo(true)} className={look} />
      )}
      <figcaption className="mt-1 text-muted text-xs">{label}</figcaption>
    </figure>
  );
}

/** Uploads of first frames, last frames and videos. */
import { useMutation } from "@tanstack/react-query";
import { addressOf } from "@/api/client";
import { toApiError } from "@/api/errors";
import type { Upload } from "@/api/types";
import { uploadAddress } from "@/jobs/addresses";
import type { Input } from "./form";

export const IMAGES = "image/png,image/jpeg,image/webp";
export const VIDEOS = "video/mp4";

/** Key of all uploads of the form, for which a submission waits. */
export const UPLOAD = ["upload"];

/** Returns a mutation that sends a file to the service and returns the input that it became. */
export function useUpload(onDone: (input: Input) => void) {
  return useMutation({
    mutationKey: UPLOAD,
    mutationFn: async (file: File): Promise<Input> => {
      const body = new FormData();
      body.set("file", file);
      const response = await fetch(addressOf("/api/v1/uploads"), {
        method: "POST",
        body,
        credentials: "same-origin",
      });
      if (!response.ok) throw await toApiError(response);
      const upload = (await response.json()) as Upload;
      return {
        id: upload.id,
        kind: upload.kind,
        width: upload.width,
        height: upload.height,
        numFrames: upload.num_frames,
        picture: uploadAddress(upload.id),
      };
    },
    onSuccess: onDone,
  });
}

/** Uploads of LoRAs, with their progress. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { addressOf, ServiceUnreachable } from "@/api/client";
import { toApiError } from "@/api/errors";
import { lorasQuery } from "@/api/queries";
import type { components } from "@/api/schema";

export type LoraUpload = components["schemas"]["LoraUpload"];

export type UploadRequest = { file: File; replace: boolean };

/** Returns the upload of one file at a time, and the share of it that has left the browser, in percent. */
export function useLoraUpload() {
  const client = useQueryClient();
  const [percent, setPercent] = useState(0);
  const upload = useMutation({
    mutationFn: (request: UploadRequest) => send(request, setPercent),
    onMutate: () => setPercent(0),
    onSuccess: () => client.invalidateQueries(lorasQuery),
  });
  return { upload, percent };
}

/** Sends a file with XMLHttpRequest, because fetch reports no progress of uploads. */
function send({ file, replace }: UploadRequest, onProgress: (percent: number) => void): Promise<LoraUpload> {
  const body = new FormData();
  body.set("file", file);
  body.set("replace", String(replace));
  const request = new XMLHttpRequest();
  request.open("POST", addressOf("/api/v1/lora/upload"));
  request.upload.onprogress = (event) => {
    if (event.lengthComputable) onProgress((100 * event.loaded) / event.total);
  };
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(new ServiceUnreachable(new Error("The upload broke off.")));
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText) as LoraUpload);
      else void toApiError(toResponse(request)).then(reject);
    };
    request.send(body);
  });
}

function toResponse(request: XMLHttpRequest): Response {
  const { status, statusText, responseText } = request;
  return new Response(responseText, { status, statusText });
}

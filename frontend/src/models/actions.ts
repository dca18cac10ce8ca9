/** Administrators' actions on a model's files. */
import { useMutation, useMutationState, useQueryClient } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { ApiError } from "@/api/errors";
import { modelStatusQuery } from "@/api/queries";
import type { components } from "@/api/schema";
import { useFailureToast } from "@/ui/toaster";

type Verification = components["schemas"]["Verification"];

export function useModelActions(id: string) {
  const client = useQueryClient();
  const fail = useFailureToast();
  const options = {
    onError: fail,
    onSettled: () => client.invalidateQueries(modelStatusQuery),
  } as const;
  const path = { params: { path: { model_type: id } } };
  const download = useMutation({
    mutationFn: () =>
      data(api.POST("/api/v1/models/download", { body: { model_type: id, force_redownload: false } })),
    ...options,
  });
  const cancelDownload = useMutation({
    mutationFn: () => data(api.POST("/api/v1/models/download/{model_type}/cancel", path)),
    ...options,
  });
  const verify = useMutation({
    mutationKey: ["verify", id],
    mutationFn: () => data(api.POST("/api/v1/models/verify/{model_type}", path)),
    ...options,
    onError: (error: Error) => {
      // Stopping the check ends this request too.
      if (!(error instanceof ApiError && error.code === "verification_stopped")) options.onError(error);
    },
  });
  const cancelVerify = useMutation({
    mutationFn: () => data(api.POST("/api/v1/models/verify/{model_type}/cancel", path)),
    ...options,
  });
  return { download, cancelDownload, verify, cancelVerify };
}

/** Returns the check of a model's files that this page started last, also after a visit to another page. */
export function useVerification(id: string) {
  const found = useMutationState({
    filters: { mutationKey: ["verify", id] },
    select: ({ state }) => ({
      isPending: state.status === "pending",
      result: state.data as Verification | undefined,
    }),
  });
  return found.at(-1) ?? { isPending: false, result: undefined };
}

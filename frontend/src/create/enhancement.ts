import { useMutation } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import type { components } from "@/api/schema";

export type Enhanced = components["schemas"]["Enhanced"];

/** Returns a mutation that asks the service for an enhanced prompt. It changes nothing by itself. */
export function useEnhancement(prompt: string) {
  return useMutation({
    mutationFn: (): Promise<Enhanced> =>
      data(api.POST("/api/v1/prompt/enhance", { body: { prompt: prompt.trim() } })),
  });
}

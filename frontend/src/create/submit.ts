/** Submission of the form. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";
import { api, data } from "@/api/client";
import type { Model } from "@/api/types";
import { type FormValues, randomId, type SubmitBody, toRequest } from "./form";

/** Returns a mutation that submits the form and returns the ids of the jobs. A repeated attempt makes no second job. */
export function useSubmit(onDone: (ids: string[]) => void) {
  const client = useQueryClient();
  const attempt = useRef({ body: "", key: "" });
  return useMutation({
    mutationFn: async ({ values, model }: { values: FormValues; model: Model }) => {
      const body = toRequest(values, model) as SubmitBody;
      const text = JSON.stringify(body);
      if (attempt.current.body !== text) attempt.current = { body: text, key: randomId() };
      const answer = await data(
        api.POST("/api/v1/generation/submit", {
          body,
          params: { header: { "idempotency-key": attempt.current.key } },
        }),
      );
      attempt.current = { body: "", key: "" };
      return answer.task_ids ?? [answer.task_id];
    },
    onSuccess: (ids) => {
      void client.invalidateQueries({ queryKey: ["queue"] });
      onDone(ids);
    },
  });
}

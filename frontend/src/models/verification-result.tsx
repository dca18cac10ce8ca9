import { CircleAlert, CircleCheck } from "lucide-react";
import type { components } from "@/api/schema";
import { useText } from "@/text";

/** The outcome of a check of a model's files, with the files that were wrong. */
export function VerificationResult({ result }: { result: components["schemas"]["Verification"] }) {
  const text = useText();
  const Icon = result.is_valid ? CircleCheck : CircleAlert;
  const title = !result.is_valid
    ? text.models.stillWrong
    : result.recovery_successful
      ? text.models.repaired
      : text.models.allCorrect;
  return (
    <div role="status" className="flex gap-2 text-sm">
      <Icon aria-hidden className={`mt-0.5 size-4 shrink-0 ${result.is_valid ? "text-good" : "text-bad"}`} />
      <div className="min-w-0">
        <p>{title}</p>
        {!result.is_valid && <p className="text-muted wrap-anywhere">{result.details}</p>}
        {result.issues_found.map((issue) => (
          <p key={issue} className="font-mono text-xs text-muted wrap-anywhere">
            {issue}
          </p>
        ))}
      </div>
    </div>
  );
}

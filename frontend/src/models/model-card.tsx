import { ShieldCheck } from "lucide-react";
import type { ModelStatus } from "@/api/types";
import { useSession } from "@/session/session";
import { useText } from "@/text";
import { Badge, type Tone } from "@/ui/badge";
import { Button } from "@/ui/button";
import { ErrorNotice, ProgressBar } from "@/ui/notices";
import { useModelActions, useVerification } from "./actions";
import { VerificationResult } from "./verification-result";

const TONES: Record<ModelStatus["status"], Tone> = {
  missing: "plain",
  downloading: "accent",
  available: "good",
  loaded: "good",
  corrupted: "bad",
};

export function ModelCard({ model }: { model: ModelStatus }) {
  const text = useText();
  const { can } = useSession();
  const verification = useVerification(model.model_id);
  const isVerifying = verification.isPending || model.verification_progress !== null;
  const facts = [
    model.model_type,
    model.size_mb !== null && text.common.size(model.size_mb),
    model.estimated_vram_usage_mb !== null &&
      text.models.memory(text.common.size(model.estimated_vram_usage_mb)),
  ].filter(Boolean);
  return (
    <li className="flex flex-col gap-3 rounded-lg border bg-surface p-4">
      <div className="flex items-start justify-between gap-3">
        <div className="min-w-0">
          <h3 className="font-medium wrap-anywhere">{model.title}</h3>
          <p className="font-mono text-xs text-muted wrap-anywhere">{model.model_id}</p>
        </div>
        <Badge tone={TONES[model.status]}>{text.models.states[model.status]}</Badge>
      </div>
      <p className="text-sm text-muted tabular">{facts.join(" · ")}</p>
      <Holders model={model} />
      {!model.hardware_compatible && <p className="text-sm text-warn">{text.models.tooLarge}</p>}
      {model.status === "downloading" && <Download model={model} />}
      {isVerifying && <Verifying model={model} />}
      {!isVerifying && verification.result && <VerificationResult result={verification.result} />}
      {model.error_message && model.status !== "downloading" && (
        <ErrorNotice error={model.status === "corrupted" ? text.models.corruptedHint : model.error_message} />
      )}
      {can("admin") && <Actions model={model} isVerifying={isVerifying} />}
    </li>
  );
}

function Holders({ model }: { model: ModelStatus }) {
  const text = useText();
  if (model.replicas.length === 0) return null;
  return (
    <ul className="flex flex-col gap-1 text-sm">
      {model.replicas.map((holder) => (
        <li key={holder.replica} className="wrap-anywhere">
          {text.models.loadedOn(holder.device, holder.node)}
          <span className="text-muted">
            {" "}
            · {holder.job_id ? text.models.working : text.models.idle}
            {holder.optimizations.length > 0 && ` · ${holder.optimizations.join(", ")}`}
          </span>
        </li>
      ))}
    </ul>
  );
}

function Download({ model }: { model: ModelStatus }) {
  const text = useText();
  const { download_progress: percent, download_speed_mbps: speed, download_eta_seconds: eta } = model;
  return (
    <div className="flex flex-col gap-1.5">
      <ProgressBar value={percent} label={text.models.downloadOf(model.title)} />
      <p className="flex justify-between gap-3 text-xs text-muted tabular">
        <span>
          {percent === null ? text.models.starting : `${percent.toFixed(percent < 10 ? 1 : 0)} %`}
          {speed ? ` · ${text.common.size(speed)}/s` : ""}
        </span>
        {eta !== null && <span>{text.task.left(text.common.duration(eta))}</span>}
      </p>
    </div>
  );
}

function Verifying({ model }: { model: ModelStatus }) {
  const text = useText();
  return (
    <div className="flex flex-col gap-1.5">
      <ProgressBar value={model.verification_progress} label={text.models.verificationOf(model.title)} />
      <p className="text-xs text-muted">{text.models.verifying}</p>
    </div>
  );
}

function Actions({ model, isVerifying }: { model: ModelStatus; isVerifying: boolean }) {
  const text = useText();
  const { download, cancelDownload, verify, cancelVerify } = useModelActions(model.model_id);
  const isFetched = model.source !== "folder" && !model.source.startsWith("builtin:");
  if (model.is_cached && !isFetched && !isVerifying) return null;
  const started = (model.download_progress ?? 0) > 0 || model.error_message !== null;
  return (
    <div className="mt-auto flex flex-wrap gap-2 pt-1">
      {model.status === "missing" && (
        <Button onClick={() => download.mutate()} disabled={download.isPending}>
          {started ? text.models.resume : text.models.download}
        </Button>
      )}
      {model.status === "downloading" && (
        <Button onClick={() => cancelDownload.mutate()} disabled={cancelDownload.isPending}>
          {text.models.cancelDownload}
        </Button>
      )}
      {model.status === "corrupted" && (
        <Button look="primary" onClick={() => verify.mutate()} disabled={isVerifying}>
          {text.models.repair}
        </Button>
      )}
      {model.is_cached && isFetched && !isVerifying && (
        <Button onClick={() => verify.mutate()}>
          <ShieldCheck aria-hidden />
          {text.models.verify}
        </Button>
      )}
      {isVerifying && (
        <Button onClick={() => cancelVerify.mutate()} disabled={cancelVerify.isPending}>
          {text.models.cancelVerify}
        </Button>
      )}
    </div>
  );
}

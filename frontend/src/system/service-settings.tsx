import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, data } from "@/api/client";
import { generationModeQuery } from "@/api/queries";
import type { components } from "@/api/schema";
import { NeedsScope } from "@/session/needs-scope";
import { useSession } from "@/session/session";
import { useText } from "@/text";
import { Field, Select, Switch } from "@/ui/field";
import { ErrorNotice } from "@/ui/notices";
import { optimizationQuery } from "./queries";
import { Section } from "./section";

type Change = components["schemas"]["OptimizationChange"];
type Level = components["schemas"]["QuantizationLevel"];
const LEVELS: readonly Level[] = ["auto", "none", "fp8", "int8"];
const TILES = [128, 256, 512] as const;

/** Settings for all jobs. The values shown are those that the service has stored. */
export function ServiceSettings() {
  const text = useText();
  const { can } = useSession();
  const client = useQueryClient();
  const mode = useQuery(generationModeQuery);
  const optimization = useQuery(optimizationQuery);
  const changeMode = useMutation({
    mutationFn: (next: "real" | "mock") =>
      data(api.PUT("/api/v1/system/generation-mode", { body: { mode: next } })),
    onSettled: () => client.invalidateQueries(generationModeQuery),
  });
  const change = useMutation({
    mutationFn: (body: Change) => data(api.POST("/api/v1/system/optimization", { body })),
    onSettled: () => client.invalidateQueries(optimizationQuery),
  });
  const isAdmin = can("admin");
  const stored = optimization.data;
  const error = changeMode.error ?? change.error ?? mode.error ?? optimization.error;
  return (
    <Section title={text.system.settings} aside={<NeedsScope scope="admin" />}>
      {error && <ErrorNotice error={error} />}
      {!(stored && mode.data) ? (
        !error && <div role="status" aria-label={text.common.loading} className="skeleton h-52 rounded-lg" />
      ) : (
        <fieldset
          disabled={!isAdmin || change.isPending || changeMode.isPending}
          className="flex flex-col gap-5 rounded-lg border bg-surface p-4 disabled:opacity-80"
        >
          <legend className="sr-only">{text.system.settings}</legend>
          <div className="flex flex-col gap-1">
            <Switch
              label={text.system.mockMode}
              checked={mode.data.mode === "mock"}
              onChange={(on) => changeMode.mutate(on ? "mock" : "real")}
            />
            <p className="max-w-2xl text-xs text-muted">{text.system.mockHint}</p>
          </div>
          <div className="grid gap-4 border-t pt-4 sm:grid-cols-3">
            <Field label={text.system.quantization} hint={text.system.quantizationHint}>
              {(field) => (
                <Select
                  {...field}
                  value={stored.quantization}
                  onChange={(event) => change.mutate({ quantization: event.target.value as Level })}
                >
                  {LEVELS.concat(LEVELS.includes(stored.quantization) ? [] : [stored.quantization]).map(
                    (level) => (
                      <option key={level} value={level}>
                        {text.system.quantizations[level] ?? level}
                      </option>
                    ),
                  )}
                </Select>
              )}
            </Field>
            <Field label={text.system.offload} hint={text.system.offloadHint}>
              {(field) => (
                <Select
                  {...field}
                  value={String(stored.enable_offload)}
                  onChange={(event) =>
                    change.mutate({ enable_offload: JSON.parse(event.target.value) as boolean | null })
                  }
                >
                  <option value="null">{text.system.automatic}</option>
                  <option value="true">{text.system.always}</option>
                  <option value="false">{text.system.never}</option>
                </Select>
              )}
            </Field>
            <Field label={text.system.tiles} hint={text.system.tilesHint}>
              {(field) => (
                <Select
                  {...field}
                  value={String(stored.vae_tile_size)}
                  onChange={(event) =>
                    change.mutate({ vae_tile_size: JSON.parse(event.target.value) as number | null })
                  }
                >
                  <option value="null">{text.system.automatic}</option>
                  {TILES.map((size) => (
                    <option key={size} value={size}>
                      {text.system.pixels(size)}
                    </option>
                  ))}
                </Select>
              )}
            </Field>
          </div>
        </fieldset>
      )}
    </Section>
  );
}

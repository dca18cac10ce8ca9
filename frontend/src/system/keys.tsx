import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { KeyRound, Plus, RefreshCw } from "lucide-react";
import { useState } from "react";
import { api, data } from "@/api/client";
import type { Key, NewKey } from "@/api/types";
import { useSession } from "@/session/session";
import { useText } from "@/text";
import { Badge } from "@/ui/badge";
import { Button, IconButton } from "@/ui/button";
import { Dialog } from "@/ui/dialog";
import { ErrorNotice } from "@/ui/notices";
import { CreateKey } from "./create-key";
import { useMoment } from "./moments";
import { keysQuery } from "./queries";
import { Section } from "./section";
import { ShownKey } from "./shown-key";

const TONES = { valid: "good", expired: "plain", revoked: "plain" } as const;

/** The API keys, and what an administrator does with them. */
export function Keys() {
  const text = useText();
  const [creating, setCreating] = useState(false);
  const [shown, setShown] = useState<NewKey | null>(null);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const { data: keys, error, refetch } = useQuery(keysQuery);
  return (
    <Section
      title={text.system.keys}
      aside={
        <Button onClick={() => setCreating(true)}>
          <Plus aria-hidden />
          {text.system.createKey}
        </Button>
      }
    >
      {error && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!keys && !error && (
        <div role="status" aria-label={text.common.loading} className="skeleton h-40 rounded-lg" />
      )}
      {keys && (
        <ul className="divide-y rounded-lg border bg-surface">
          {keys.map((key) => (
            <KeyRow key={key.id} item={key} onRevoke={() => setRevoking(key)} onNew={setShown} />
          ))}
        </ul>
      )}
      <CreateKey open={creating} onOpenChange={setCreating} onCreated={setShown} />
      <ShownKey item={shown} onClose={() => setShown(null)} />
      {revoking && <RevokeKey item={revoking} onClose={() => setRevoking(null)} />}
    </Section>
  );
}

function KeyRow({
  item,
  onRevoke,
  onNew,
}: {
  item: Key;
  onRevoke: () => void;
  onNew: (key: NewKey) => void;
}) {
  const text = useText();
  const moment = useMoment();
  const client = useQueryClient();
  const { keyId } = useSession();
  const rotate = useMutation({
    mutationFn: () =>
      data(
        api.POST("/api/v1/keys/{key_id}/rotate", {
          params: { path: { key_id: item.id } },
          body: { overlap_hours: 24 },
        }),
      ),
    onSuccess: onNew,
    onSettled: () => client.invalidateQueries(keysQuery),
  });
  const times = [
    text.system.createdAt(moment(item.created_at)),
    item.expires_at && text.system.expiresAt(moment(item.expires_at)),
    item.last_used_at ? text.system.usedAt(moment(item.last_used_at)) : text.system.neverUsed,
  ].filter(Boolean);
  return (
    <li className="flex flex-wrap items-center gap-x-4 gap-y-2 p-4">
      <KeyRound aria-hidden className="size-4 text-muted" />
      <div className="min-w-0 flex-1 basis-60">
        <p className="flex flex-wrap items-center gap-2">
          <span className="font-medium wrap-anywhere">{item.owner}</span>
          <span className="font-mono text-xs text-muted">{item.id}</span>
          {item.id === keyId && <Badge tone="accent">{text.system.yourKey}</Badge>}
        </p>
        <p className="text-xs text-muted">{times.join(" · ")}</p>
        {rotate.error && <ErrorNotice error={rotate.error} className="mt-2" />}
      </div>
      <p className="text-sm text-muted">
        {item.scopes.map((scope) => text.system.scopes[scope].name).join(", ")}
      </p>
      <Badge tone={TONES[item.status]}>{text.system.keyStates[item.status]}</Badge>
      <div className="flex w-32 items-center justify-end gap-1">
        {item.status === "valid" && (
          <>
            <IconButton
              label={text.system.rotateKey(item.owner)}
              onClick={() => rotate.mutate()}
              disabled={rotate.isPending}
            >
              <RefreshCw />
            </IconButton>
            <Button size="sm" look="danger" aria-label={text.system.revokeKey(item.owner)} onClick={onRevoke}>
              {text.system.revoke}
            </Button>
          </>
        )}
      </div>
    </li>
  );
}

function RevokeKey({ item, onClose }: { item: Key; onClose: () => void }) {
  const text = useText();
  const client = useQueryClient();
  const { keyId } = useSession();
  const revoke = useMutation({
    mutationFn: () =>
      data(api.POST("/api/v1/keys/{key_id}/revoke", { params: { path: { key_id: item.id } } })),
    onSuccess: async () => {
      onClose();
      await client.invalidateQueries(keysQuery);
    },
  });
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onClose()}
      title={text.system.revokeKey(item.owner)}
      description={item.id === keyId ? text.system.revokeOwnHint : text.system.revokeHint}
    >
      <div className="flex flex-col gap-4">
        {revoke.error && <ErrorNotice error={revoke.error} />}
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>{text.common.cancel}</Button>
          <Button look="danger" onClick={() => revoke.mutate()} disabled={revoke.isPending}>
            {text.system.revoke}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

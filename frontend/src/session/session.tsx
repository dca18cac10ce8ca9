/** Who uses the page, and what the service lets them do. */
import { type QueryClient, queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useMemo } from "react";
import { api, data, onSignedOut } from "@/api/client";
import type { Session } from "@/api/types";
import { PRIVATE, remember } from "@/shell/memory";
import { SignIn } from "./sign-in";
import { Waiting } from "./waiting";

export type Scope = Session["scopes"][number];

/** The service renews a session that is older than an hour in the response to this request only. */
const RENEWAL_MS = 3_600_000;

const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => data(api.GET("/api/v1/session", { signal })),
  staleTime: RENEWAL_MS,
  refetchInterval: RENEWAL_MS,
});

const Context = createContext<Session | null>(null);

/** Shows the page to those who are signed in, or who need not be. The address stays, so they return to where they were. */
export function SessionGate({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const { data: session, error, refetch } = useQuery(sessionQuery);
  useEffect(
    () =>
      onSignedOut(() => {
        // A wrong key at the sign-in is a 401 too.
        if (client.getQueryData(sessionQuery.queryKey)?.key_id) void client.invalidateQueries(sessionQuery);
      }),
    [client],
  );
  if (!session) return <Waiting error={error} onRetry={() => void refetch()} />;
  if (session.needs_key && session.key_id === null) return <SignIn />;
  return <Context.Provider value={session}>{children}</Context.Provider>;
}

/** Returns who uses the page, and whether a scope is theirs. */
export function useSession() {
  const session = useContext(Context);
  if (!session) throw new Error("SessionGate is missing.");
  return useMemo(
    () => ({
      needsKey: session.needs_key,
      owner: session.owner,
      keyId: session.key_id,
      can: (scope: Scope) => session.scopes.includes(scope),
    }),
    [session],
  );
}

export function useSignIn() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (key: string) => data(api.POST("/api/v1/session", { body: { key } })),
    onSuccess: (session) => changeSession(client, session),
  });
}

export function useSignOut() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => data(api.DELETE("/api/v1/session")),
    onSuccess: (session) => changeSession(client, session),
  });
}

/** Shows the page of another user, or none, without anything of the one before. */
function changeSession(client: QueryClient, session: Session): void {
  for (const name of PRIVATE) remember(name, null);
  client.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" });
  client.setQueryData(sessionQuery.queryKey, session);
}

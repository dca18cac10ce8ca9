/** Keeps what the page shows current: by messages while the socket is up, by polling while it is down. */
import { useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import type { Task } from "@/api/types";
import { applyMessage } from "./apply";
import { Connection, type ConnectionState } from "./connection";
import { watchEndings } from "./endings";

const POLL_MS = 2_000;
const Context = createContext<Connection | null>(null);

export function LiveProvider({
  children,
  onEnding,
}: {
  children: ReactNode;
  onEnding: (task: Task) => void;
}) {
  const client = useQueryClient();
  const connection = useMemo(
    () =>
      new Connection(
        (message) => applyMessage(client, message),
        () => void client.invalidateQueries(),
      ),
    [client],
  );
  useEffect(() => watchEndings(client, onEnding), [client, onEnding]);
  useEffect(() => {
    connection.start();
    return () => connection.stop();
  }, [connection]);
  const state = useSyncExternalStore(connection.subscribe, () => connection.state);
  useEffect(() => {
    if (state !== "polling") return;
    const timer = setInterval(() => {
      if (document.visibilityState === "hidden") return;
      void client.invalidateQueries({ queryKey: ["queue"] });
    }, POLL_MS);
    return () => clearInterval(timer);
  }, [client, state]);
  return <Context.Provider value={connection}>{children}</Context.Provider>;
}

function useConnection(): Connection {
  const connection = useContext(Context);
  if (!connection) throw new Error("LiveProvider is missing.");
  return connection;
}

export function useConnectionState(): ConnectionState {
  const connection = useConnection();
  return useSyncExternalStore(connection.subscribe, () => connection.state);
}

/** Receives a topic of the socket, beside jobs and the queue, while the component is shown. */
export function useTopic(topic: string): void {
  const connection = useConnection();
  useEffect(() => connection.follow(topic), [connection, topic]);
}

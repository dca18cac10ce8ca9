/** Keeps what the page shows current: by messages while the socket is up, by polling while it is down. */
import { useQueryClient } from "@tanstack/react-query";
import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useEffectEvent,
  useMemo,
  useSyncExternalStore,
} from "react";
import { applyMessage } from "./apply";
import { Connection, type ConnectionState } from "./connection";
import { watchEndings } from "./endings";
import { Refresher } from "./refresher";
import { EndingReporter, type Report } from "./reports";

const POLL_MS = 2_000;
const Context = createContext<Connection | null>(null);

export function LiveProvider({
  children,
  onReport,
}: {
  children: ReactNode;
  onReport: (report: Report) => void;
}) {
  const client = useQueryClient();
  const queue = useMemo(
    () => new Refresher(() => client.invalidateQueries({ queryKey: ["queue"] })),
    [client],
  );
  const connection = useMemo(
    () =>
      new Connection(
        (message) => applyMessage(client, message, queue.request),
        () => void client.invalidateQueries(),
      ),
    [client, queue],
  );
  const report = useEffectEvent(onReport);
  useEffect(() => {
    const reporter = new EndingReporter(client, (ending) => report(ending));
    return watchEndings(client, (task) => {
      if (task.status === "completed") void client.invalidateQueries({ queryKey: ["outputs"] });
      reporter.add(task);
    });
  }, [client]);
  useEffect(() => {
    connection.start();
    return () => connection.stop();
  }, [connection]);
  const state = useSyncExternalStore(connection.subscribe, () => connection.state);
  useEffect(() => {
    if (state === "live") return;
    const timer = setInterval(queue.request, POLL_MS); // also while hidden: notifications are for then
    return () => clearInterval(timer);
  }, [queue, state]);
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

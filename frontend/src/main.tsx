import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api/errors";
import { LiveJobs } from "./live/live-jobs";
import { router } from "./router";
import { SessionGate } from "./session/session";
import "./styles.css";
import { TextProvider } from "./text";
import { ToastProvider } from "./ui/toaster";

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A request that the service rejects is rejected again. Everything else passes.
      retry: (count, error) => !(error instanceof ApiError && error.status < 500) && count < 2,
      refetchOnReconnect: true,
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

// A job that nothing shows must still be known when it ends.
client.setQueryDefaults(["task"], { gcTime: Number.POSITIVE_INFINITY });

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no element #root.");
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <TextProvider>
        <ToastProvider>
          <SessionGate>
            <LiveJobs>
              <RouterProvider router={router} />
            </LiveJobs>
          </SessionGate>
        </ToastProvider>
      </TextProvider>
    </QueryClientProvider>
  </StrictMode>,
);

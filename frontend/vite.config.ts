import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** The service that `npm run dev` forwards the API to. */
const service = process.env.WAN22_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  // Relative addresses, because a reverse proxy may serve the page below a prefix.
  base: "./",
  plugins: [react(), tailwindcss()],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: { outDir: "../serve_app/page", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0 },
  server: {
    proxy: {
      "/api": { target: service, ws: true },
      "/v1": service,
    },
  },
});

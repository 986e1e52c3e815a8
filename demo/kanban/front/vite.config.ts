import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const client = here("../../../rest_channels/static/rest_channels/");
const django = process.env.DEMO_URL ?? "http://127.0.0.1:8000";

export default defineConfig(({ command }) => ({
  plugins: [react()],
  // Django serves the built page, and its files as static files.
  base: command === "build" ? "/static/kanban/dist/" : "/kanban/",
  build: { outDir: here("../static/kanban/dist"), emptyOutDir: true },
  resolve: {
    // The client of this repository; an application installs the package rest-channels instead.
    alias: [
      { find: /^rest-channels$/, replacement: `${client}client.js` },
      { find: /^rest-channels\/(\w+)$/, replacement: `${client}$1.js` },
    ],
    dedupe: ["react"],
  },
  server: {
    fs: { allow: [here("."), client] },
    proxy: {
      // Django compares a browser's origin with the host that it asked for, which therefore stays.
      "^/(sign-in|sign-out|static)/": { target: django },
      "/socket/": { target: django, ws: true, rewrite: () => "/" },
    },
  },
}));

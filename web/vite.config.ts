import { defineConfig } from "vite";

/** Built into the Python package; every asset gets a hashed name and none is inlined (CSP: no data: scripts or styles). */
export default defineConfig({
  base: "/",
  build: {
    outDir: "../server/nanwatch_server/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    // Plotly alone is 1.5 MB; it is loaded after the shell has painted.
    chunkSizeWarningLimit: 1700,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
});

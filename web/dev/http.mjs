// Answers of the development server: JSON, errors, and the built page under the real policy.
import { createReadStream, existsSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";

const STATIC = new URL("../../server/nanwatch_server/static/", import.meta.url).pathname;
const CSP =
  "default-src 'none'; script-src 'self'; style-src-elem 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

export function answer(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}
export const fail = (response, status, code, message, more = {}) =>
  answer(response, status, { error: { code, message, ...more } });

export function serveFile(path, response) {
  let file = join(STATIC, normalize(path));
  if (!file.startsWith(STATIC) || !existsSync(file) || !statSync(file).isFile())
    file = join(STATIC, "index.html");
  const immutable = path.startsWith("/assets/");
  response.writeHead(200, {
    "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
    "Content-Security-Policy": CSP,
    "Cache-Control": immutable ? "public, max-age=31536000, immutable" : "no-cache",
  });
  createReadStream(file).pipe(response);
}

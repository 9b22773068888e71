// A server with made-up runs that speaks docs/protocol.md: to work on the page without Python.
//   node dev/server.mjs [--port 8123] [--empty] [--role view]
import { createServer } from "node:http";
import { Blocks, encode, seriesFrame } from "./frames.mjs";
import { answer, fail, serveFile } from "./http.mjs";
import { makeIncidents } from "./incidents.mjs";
import { deliveriesOf, NOTIFICATIONS } from "./notifications.mjs";
import { COVERAGE, reportsOf } from "./reports.mjs";
import {
  backtest,
  cancelBacktest,
  checkRules,
  coverageOf,
  getRules,
  putRules,
  startBacktest,
} from "./rules.mjs";
import { checkpointsOf, makeRuns } from "./runs.mjs";
import { accept } from "./socket.mjs";
import { keepPoints, storageOf, storedOf } from "./storage.mjs";

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : (process.argv[at + 1] ?? "");
};
const PORT = Number(option("port", "8123"));
const ROLE = option("role", "admin");
const runs = makeRuns(process.argv.includes("--empty"));
const incidents = new Map(makeIncidents(runs).map((one) => [one.id, one]));
const commands = new Map();
const keys = new Map();
const audit = [];
const checkpoints = new Map(runs.map((run) => [run.id, checkpointsOf(run)]));
const clients = new Set();
let signedIn = option("signed-out", "no") === "no";
const now = () => Date.now() / 1000;

function incidentOf(run) {
  const rank = { critical: 3, warning: 2, notice: 1 };
  return [...incidents.values()]
    .filter((one) => one.run_id === run.id && one.state !== "resolved")
    .sort((a, b) => rank[b.severity] - rank[a.severity])[0];
}

function controlsOf(run) {
  if (run.spec.controls === "all") return ["set_lr", "scale_lr", "checkpoint", "stop", "arm_tracing"];
  return run.spec.controls === "lr" ? ["set_lr", "scale_lr"] : [];
}

function summary(run) {
  const one = incidentOf(run);
  const silent = now() - run.lastSeen > 20;
  return {
    id: run.id,
    project: run.project,
    name: run.name,
    status: run.endedAt ? "ended" : silent ? "lost" : "live",
    created_at: run.startedAt,
    started_at: run.startedAt,
    last_seen_at: run.lastSeen,
    last_step: run.step - 1,
    ended_at: run.endedAt,
    end_reason: run.endedAt ? (run.spec.exit ? "exception" : "finished") : "",
    exit_code: run.spec.exit ?? null,
    severity: one?.severity ?? null,
    incident: one
      ? {
          id: one.id,
          title: one.title,
          severity: one.severity,
          state: one.state,
          onset_step: one.onset_step,
          syndrome: one.syndrome,
        }
      : null,
    controls: controlsOf(run),
  };
}

function detail(run) {
  const allowed = controlsOf(run);
  const control = allowed.length
    ? {
        lr: ["1e-07", "0.01"],
        checkpoint: allowed.includes("checkpoint"),
        stop: allowed.includes("stop"),
        tracing: allowed.includes("arm_tracing"),
        granted_by: "script",
      }
    : null;
  return {
    ...summary(run),
    config: { lr: String(run.spec.lr ?? 3e-4), gamma: "0.99", batch_size: "64", T: "256" },
    facts: { torch: "2.13.0", device: "cuda:0 <H200>", host: "gpu-07", amp: "fp16" },
    control,
    series: run.series,
    beat: { queued: 0, dropped: {}, overhead: "0.004" },
    main_scope: run.spec.scopes?.[0] ?? "",
    coverage: { step: run.step - 1, at: now(), what: COVERAGE },
  };
}

const COLUMNS = [
  "step",
  "loss",
  "loss_trend",
  "grad_norm",
  "clip_threshold",
  "clip_share",
  "applied_share",
  "steps_per_s",
  "age_s",
  "nonfinite_total",
];

function wallFrame() {
  const blocks = new Blocks();
  const rows = runs.flatMap((run) => {
    const clip = run.newest("clip_threshold");
    const dead = run.spec.sick === "nan";
    return [
      run.step - 1,
      run.newest("loss"),
      run.spec.sick === "clip" ? 0.4 : dead ? 0 : -0.1,
      run.newest("grad_norm"),
      clip,
      run.share("grad_norm", (v) => v > clip),
      run.share("update_applied", (v) => v > 0),
      run.rate,
      now() - run.lastSeen,
      dead ? 41 : 0,
    ];
  });
  const vitals = blocks.add(rows);
  const sparks = {};
  for (const run of runs) {
    const all = run.values.get(1).slice(-1500);
    const stride = Math.max(1, Math.floor(all.length / 150));
    const values = all.filter((_, i) => i % stride === 0);
    sparks[run.id] = { n: values.length, offset: blocks.add(values) };
  }
  return encode(
    {
      type: "wall",
      runs: runs.map((run, row) => ({ ...summary(run), row })),
      columns: COLUMNS,
      vitals,
      sparks,
    },
    blocks.list,
  );
}

function broadcast(runId, frame) {
  for (const client of clients)
    if (client.runs.has(runId) || (runId === "" && client.wall)) client.peer.send(frame);
}

function toRun(runId, header) {
  const frame = encode({ run: runId, ...header }, []);
  for (const client of clients)
    if (client.runs.has(runId) || (client.wall && header.type === "incident")) client.peer.send(frame);
}

/** New points of everything that lives, five times a second. */
setInterval(() => {
  for (const run of runs) {
    if (run.endedAt || run.spec.silent) continue;
    run.debt = (run.debt ?? 0) + run.rate / 5;
    const count = Math.floor(run.debt);
    if (!count) continue;
    run.debt -= count;
    const rows = Array.from({ length: count }, () => run.advance(now()));
    run.lastSeen = now();
    const blocks = new Blocks();
    const ids = run.series.map((one) => one.id);
    const steps = blocks.add(run.steps.slice(-count));
    const times = blocks.add(run.times.slice(-count));
    const values = blocks.add(ids.flatMap((id) => rows.map((row) => row[id])));
    broadcast(
      run.id,
      encode(
        { type: "points", run: run.id, tables: [{ series: ids, n: count, steps, times, values }] },
        blocks.list,
      ),
    );
  }
}, 200);
setInterval(() => {
  const frame = wallFrame();
  for (const client of clients) if (client.wall) client.peer.send(frame);
}, 1000);

/** A command goes its way, half a second for each state. */
function progress(command) {
  const run = runs.find((one) => one.id === command.run_id);
  const states = ["delivered", "armed", "applied", "verified"];
  const next = () => {
    if (command.state === "cancelled") return;
    const state = states.shift();
    if (!state) return;
    command.state = state;
    if (state === "applied") {
      command.applied_step = run.step;
      if (command.kind.endsWith("lr")) {
        const before = run.newest("lr");
        run.factor *= command.kind === "scale_lr" ? command.args.factor : command.args.lr / before;
        for (const scope of run.spec.scopes ?? [""]) {
          command.before[scope] = String(before);
          command.after[scope] = String(
            command.kind === "scale_lr" ? before * command.args.factor : command.args.lr,
          );
        }
        command.factor = String(command.kind === "scale_lr" ? command.args.factor : command.args.lr / before);
      }
      if (command.kind === "checkpoint" || command.kind === "stop") {
        const checkpoint = {
          step: run.step,
          at: now(),
          path: `/checkpoints/${run.name}/${run.step}.pt`,
          bytes: 48_234_496,
          sha256: "cd".repeat(32),
          grade: "unverified",
          command_id: command.id,
        };
        checkpoints.get(run.id).push(checkpoint);
        toRun(run.id, { type: "event", checkpoint });
      }
      if (command.kind === "stop") {
        run.endedAt = now();
        toRun(run.id, { type: "run", run: detail(run) });
      }
    }
    command.transitions.push({ state, at: now(), detail: "" });
    toRun(run.id, { type: "command", command });
    setTimeout(next, 700);
  };
  setTimeout(next, 1500);
}

function log(action, run, target, more) {
  audit.unshift({
    id: audit.length + 1,
    at: now(),
    actor: "browser:3f9a",
    role: ROLE,
    via: "page",
    action,
    run_id: run,
    target,
    detail: more,
    hash: Math.random().toString(16).slice(2),
  });
}

function get(path, query, response) {
  const [, , kind, id, part] = path.split("/");
  const run = runs.find((one) => one.id === id);
  if (path === "/api/session")
    return answer(response, 200, { actor: "browser:3f9a", role: ROLE, version: "0.1.0" });
  if (path === "/api/runs") {
    const word = query.get("q") ?? "";
    return answer(response, 200, {
      runs: runs.filter((one) => one.name.includes(word)).map(summary),
      next: null,
    });
  }
  if (path === "/api/audit") return answer(response, 200, { rows: audit, next: null });
  if (path === "/api/notifications") return answer(response, 200, NOTIFICATIONS);
  if (path === "/api/notifications/deliveries")
    return answer(response, 200, { deliveries: deliveriesOf([...incidents.values()]), next: null });
  if (path === "/api/projects") {
    const names = [...new Set(runs.map((one) => one.project))].sort();
    const projects = names.map((project) => ({ project, runs: 1, last_seen_at: now(), own_rules: false }));
    return answer(response, 200, { projects });
  }
  if (path === "/api/rules") return answer(response, 200, getRules(query.get("project") ?? ""));
  if (path === "/api/storage") return answer(response, 200, storageOf(runs.map(summary)));
  if (path === "/api/retention") return answer(response, 200, { runs: 7, whole: 2 });
  if (path === "/api/rules/backtest") return answer(response, 200, { backtest: backtest() });
  if (path === "/api/incidents")
    return answer(response, 200, {
      incidents: [...incidents.values()].filter((one) => one.state !== "resolved"),
    });
  if (kind === "incidents" && incidents.has(id)) return answer(response, 200, incidents.get(id));
  if (kind !== "runs" || !run) return fail(response, 404, "not_found", "There is nothing here.");
  if (!part) return answer(response, 200, detail(run));
  if (part === "storage") return answer(response, 200, storedOf(run.step));
  if (part === "rules") return answer(response, 200, { rules: coverageOf() });
  if (part === "incidents")
    return answer(response, 200, { incidents: [...incidents.values()].filter((one) => one.run_id === id) });
  if (part === "commands")
    return answer(response, 200, { commands: [...commands.values()].filter((one) => one.run_id === id) });
  if (part === "events") {
    const marks = [0.4, 0.8].map((share, i) => ({
      what: "task_start",
      step: Math.floor(run.steps.length * share),
      at: run.times[Math.floor(run.steps.length * share)],
      text: `task ${i + 2}`,
      data: {},
    }));
    return answer(response, 200, { marks, checkpoints: checkpoints.get(id), ...reportsOf(run) });
  }
  if (part === "series") {
    const ids = query.get("ids").split(",").map(Number);
    const frame = seriesFrame(
      run,
      ids,
      Number(query.get("x0") ?? 0),
      Number(query.get("x1") ?? Number.POSITIVE_INFINITY),
      Number(query.get("buckets") ?? 1000),
    );
    response.writeHead(200, { "Content-Type": "application/octet-stream" });
    return response.end(frame);
  }
  return fail(response, 404, "not_found", "There is nothing here.");
}

function post(path, body, headers, response) {
  const [, , kind, id, part] = path.split("/");
  if (path === "/api/login") {
    if (body.code !== "demo") return fail(response, 401, "bad_code", "unknown, used or expired code");
    signedIn = true;
    return answer(response, 200, { role: ROLE, actor: "browser:3f9a" });
  }
  if (kind === "incidents" && incidents.has(id)) {
    const one = incidents.get(id);
    one.state = part === "acknowledge" ? "acknowledged" : part === "snooze" ? "snoozed" : "resolved";
    if (part === "acknowledge") one.acknowledged_by = "browser:3f9a";
    if (part === "snooze") one.snoozed_until = body.until_worse ? -1 : now() + body.seconds;
    if (part === "resolve") Object.assign(one, { resolved_at: now(), resolved_step: one.last_step });
    log(part, one.run_id, id, {});
    toRun(one.run_id, { type: "incident", incident: one });
    return answer(response, 200, one);
  }
  if (kind === "commands" && commands.has(id)) {
    const one = commands.get(id);
    if (one.state !== "queued" && one.state !== "delivered")
      return fail(response, 409, "armed", "The command is already armed.");
    one.state = "cancelled";
    one.transitions.push({ state: "cancelled", at: now(), detail: "" });
    toRun(one.run_id, { type: "command", command: one });
    return answer(response, 200, one);
  }
  if (kind === "runs" && part === "commands") {
    const key = headers["idempotency-key"];
    if (keys.has(key)) return answer(response, 200, keys.get(key));
    const command = {
      id: `c${commands.size + 1}`,
      run_id: id,
      kind: body.kind,
      args: body.args,
      state: "queued",
      actor: "browser:3f9a",
      role: ROLE,
      reason: body.reason ?? "",
      incident_id: body.incident_id ?? "",
      created_at: now(),
      expires_at: now() + 60,
      applied_step: null,
      before: {},
      after: {},
      factor: null,
      message: "",
      transitions: [{ state: "queued", at: now(), detail: "" }],
    };
    commands.set(command.id, command);
    keys.set(key, command);
    log("command", id, command.id, { kind: body.kind, ...body.args });
    progress(command);
    return answer(response, 201, command);
  }
  return fail(response, 404, "not_found", "There is nothing here.");
}

function writeRules(url, method, body, response) {
  const project = url.searchParams.get("project") ?? "";
  try {
    if (method === "PUT") {
      const changed = putRules(project, body.text, "browser:3f9a");
      log("rules.change", "", project, { limits: changed.limits });
      return answer(response, 200, changed);
    }
    if (method === "DELETE") return answer(response, 200, cancelBacktest());
    const { limits } = checkRules(body.text);
    if (url.pathname === "/api/rules/check") return answer(response, 200, { limits });
    const job = startBacktest(project, body, "browser:3f9a", runs, [...incidents.values()]);
    return answer(response, 202, job);
  } catch (error) {
    const { line } = error;
    if (!line) throw error;
    return fail(response, 422, "invalid", `line ${line}: expected a table, a limit or a note`, { line });
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (!url.pathname.startsWith("/api/")) return serveFile(url.pathname, response);
  if (!signedIn && url.pathname !== "/api/login") return fail(response, 401, "unauthenticated", "sign in");
  if (request.method === "GET") return get(url.pathname, url.searchParams, response);
  let text = "";
  request.on("data", (chunk) => {
    text += chunk;
  });
  request.on("end", () => {
    if (request.headers["x-nanwatch"] !== "1") return fail(response, 403, "header", "X-Nanwatch is missing");
    if (url.pathname === "/api/retention") {
      keepPoints(url.searchParams.get("project"), JSON.parse(text));
      return answer(response, 200, {});
    }
    if (request.method === "DELETE" && /^\/api\/runs\/\w+$/.test(url.pathname)) {
      const at = runs.findIndex((one) => url.pathname.endsWith(one.id));
      runs.splice(at, 1);
      return answer(response, 200, { deleted: true });
    }
    if (url.pathname.startsWith("/api/rules"))
      return writeRules(url, request.method, JSON.parse(text || "{}"), response);
    return post(url.pathname, JSON.parse(text || "{}"), request.headers, response);
  });
});

server.on("upgrade", (request, socket) => {
  const client = { wall: false, runs: new Set() };
  client.peer = accept(
    request,
    socket,
    (text) => {
      const message = JSON.parse(text);
      const on = message.type === "watch";
      if (message.topic === "wall") {
        client.wall = on;
        if (on) client.peer.send(wallFrame());
      } else if (on) {
        client.runs.add(message.run);
        const run = runs.find((one) => one.id === message.run);
        if (run) client.peer.send(encode({ type: "run", run: detail(run) }, []));
      } else client.runs.delete(message.run);
    },
    () => clients.delete(client),
  );
  clients.add(client);
  client.peer.send(encode({ type: "hello", version: "0.1.0", time: now(), role: ROLE }, []));
});

server.listen(PORT, "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}/`));

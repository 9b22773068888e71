/** How a run is looked at. All of it is in the URL, so that a link shows the same picture. */
export interface View {
  x: "step" | "rel" | "wall";
  /** The visible steps; null while the view follows the newest data. */
  zoom: [number, number] | null;
  /** How many steps are followed; 0 for all. */
  follow: number;
  smooth: boolean;
  /** Charts whose axis differs from their default. */
  flags: Record<string, { log?: boolean; wide?: boolean }>;
  /** Groups of charts that are open or closed against their default. */
  groups: Record<string, boolean>;
}

export function parseView(search: string): View {
  const query = new URLSearchParams(search);
  const x = query.get("x");
  const zoom = [Number(query.get("x0") ?? Number.NaN), Number(query.get("x1") ?? Number.NaN)];
  const flags: View["flags"] = {};
  const groups: View["groups"] = {};
  for (const [key, value] of query) {
    const group = /^g\.([a-z]+)$/.exec(key);
    if (group) groups[group[1]!] = value === "1";
    const match = /^c\.([^.]+(?:\.[^.]+)*)\.(log|wide)$/.exec(key);
    if (!match) continue;
    flags[match[1]!] ??= {};
    flags[match[1]!]![match[2] as "log" | "wide"] = value === "1";
  }
  return {
    x: x === "rel" || x === "wall" ? x : "step",
    zoom: zoom.every(Number.isFinite) && zoom[1]! > zoom[0]! ? [zoom[0]!, zoom[1]!] : null,
    follow: Math.max(0, Math.floor(Number(query.get("follow") ?? 0)) || 0),
    smooth: query.get("smooth") !== "0",
    flags,
    groups,
  };
}

/** Only what differs from the default is written. */
export function formatView(view: View): string {
  const query = new URLSearchParams();
  if (view.x !== "step") query.set("x", view.x);
  if (view.zoom) {
    query.set("x0", String(Math.floor(view.zoom[0])));
    query.set("x1", String(Math.ceil(view.zoom[1])));
  } else if (view.follow) query.set("follow", String(view.follow));
  if (!view.smooth) query.set("smooth", "0");
  for (const [chart, flags] of Object.entries(view.flags))
    for (const [name, value] of Object.entries(flags))
      if (value !== undefined) query.set(`c.${chart}.${name}`, value ? "1" : "0");
  for (const [group, open] of Object.entries(view.groups)) query.set(`g.${group}`, open ? "1" : "0");
  const text = query.toString();
  return text ? `?${text}` : "";
}

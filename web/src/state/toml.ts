/**
 * Changes single limits in a person's `rules.toml` and leaves the rest as it is written: comments, order,
 * blank lines. What a text means is the server's to say; here lines are only found. Pure.
 */

const TABLE = /^\s*\[\s*["']?([A-Za-z0-9_-]+)["']?\s*\]/;
const KEY =
  /^(\s*)(["']?[A-Za-z0-9_-]+["']?(?:\s*\.\s*["']?[A-Za-z0-9_-]+["']?)?)(\s*=\s*)([^#]*?)(\s*(?:#.*)?)$/;

interface Place {
  /** Of the key, -1 where it is not said. */
  key: number;
  /** Of the table's header, -1 without one. */
  header: number;
  /** The last line that says something about the rule, -1 if none does. */
  last: number;
  /** Lines that say something about the rule. */
  keys: number;
  /** True where the rule is written as `rule.limit = value`. */
  dotted: boolean;
}

function find(lines: string[], rule: string, limit: string): Place {
  const place: Place = { key: -1, header: -1, last: -1, keys: 0, dotted: false };
  let table = "";
  lines.forEach((line, i) => {
    const header = TABLE.exec(line);
    if (header) {
      table = header[1]!;
      if (table === rule) place.header = place.last = i;
      return;
    }
    const found = KEY.exec(line);
    if (!found) return;
    const [first, second] = found[2]!.split(".").map((part) => part.trim().replace(/["']/g, ""));
    const dotted = table === "" && second !== undefined && first === rule;
    if (!dotted && table !== rule) return;
    place.keys++;
    place.last = i;
    place.dotted ||= dotted;
    if ((dotted ? second : first) === limit) place.key = i;
  });
  return place;
}

/** The text with this limit; `null` takes it out, and its table with it where nothing else is in there. */
export function withLimit(text: string, rule: string, limit: string, value: string | null): string {
  const lines = text === "" ? [] : text.replace(/\n$/, "").split("\n");
  const place = find(lines, rule, limit);
  if (value === null) {
    if (place.key >= 0) remove(lines, place);
  } else if (place.key >= 0) {
    lines[place.key] = lines[place.key]!.replace(
      KEY,
      (_all, indent: string, name: string, equals: string, _old: string, rest: string) =>
        `${indent}${name}${equals}${value}${rest}`,
    );
  } else if (place.last >= 0) {
    const dotted = place.dotted && place.header < 0;
    lines.splice(place.last + 1, 0, `${dotted ? `${rule}.` : ""}${limit} = ${value}`);
  } else {
    if (lines.length && lines.at(-1)!.trim() !== "") lines.push("");
    lines.push(`[${rule}]`, `${limit} = ${value}`);
  }
  while (lines.length && lines[0]!.trim() === "") lines.shift();
  return lines.length ? `${lines.join("\n")}\n` : "";
}

function remove(lines: string[], place: Place): void {
  lines.splice(place.key, 1);
  if (place.keys > 1 || place.header < 0) return;
  const next = lines.findIndex((line, i) => i > place.header && TABLE.test(line));
  const end = next < 0 ? lines.length : next;
  // A comment in the table is somebody's thought: then the header stays.
  if (lines.slice(place.header + 1, end).some((line) => line.trim() !== "")) return;
  lines.splice(place.header, end - place.header);
  while (lines.length && lines.at(-1)!.trim() === "") lines.pop();
}

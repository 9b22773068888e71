import type { Table } from "./figure";

/** A table as CSV. Text that a spreadsheet would run as a formula is kept as text. */
export function toCsv(table: Table): string {
  return `${[table.columns, ...table.rows].map((row) => row.map(field).join(",")).join("\n")}\n`;
}

function field(text: string): string {
  const number = /^[+-]?(\d|\.\d)[\d.eE+-]*$|^(NaN|-?Infinity)$/.test(text);
  const safe = !number && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function saveCsv(name: string, table: Table): void {
  const url = URL.createObjectURL(new Blob([toCsv(table)], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name.replace(/[^\w.-]+/g, "_")}.csv`;
  link.click();
  // The download has started by then; a URL that is never revoked keeps its bytes in memory.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

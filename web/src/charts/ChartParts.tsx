import { formatStep } from "../ui/format";
import { cursor, cursorRow } from "./cursor";
import type { Figure, Table } from "./figure";

const MOST = 6;

/** Values under the crosshair, or the newest ones: one quiet line instead of floating boxes. */
export function Readings({ figure }: { figure: Figure }) {
  const step = cursor.value;
  const readings = figure.readings(step, step === null ? null : cursorRow.get(figure));
  return (
    <div class="readings">
      {step !== null ? <span class="reading reading-step">step {formatStep(step)}</span> : null}
      {readings.slice(0, MOST).map((one) => (
        <span key={one.label} class="reading">
          {one.color ? <i style={{ background: one.color }} /> : null}
          {one.label} <b>{one.text}</b>
        </span>
      ))}
      {readings.length > MOST ? (
        <span class="reading">and {readings.length - MOST} more in the table</span>
      ) : null}
    </div>
  );
}

export function TableView({ table, title }: { table: Table; title: string }) {
  return (
    // Scrolls by keyboard too, hence the focus.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scroll container must be reachable by keyboard
    <section class="table-scroll" tabIndex={0} aria-label={`${title} as table`}>
      <table class="data">
        <thead>
          <tr>
            {table.columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.slice(0, 400).map((row, i) => (
            <tr key={String(i)}>
              {row.map((cell, j) => (
                <td key={String(j)}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

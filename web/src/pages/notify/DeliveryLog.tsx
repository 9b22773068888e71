import { now } from "../../state/clock";
import { deliveries, deliveriesKnown } from "../../state/notifications";
import { formatDateTime, formatUtc } from "../../ui/format";
import { SeverityBadge } from "../../ui/SeverityBadge";
import { outcomeWords } from "./words";

/** What became of every message, the newest first. */
export function DeliveryLog() {
  const rows = deliveries.value;
  return (
    <section class="notify-log" aria-labelledby="log-title">
      <h2 id="log-title">Delivery log</h2>
      {deliveriesKnown.value && !rows.length ? <p class="secondary">Nothing had to be said yet.</p> : null}
      {rows.length ? (
        <div class="table-scroll card">
          <table class="data" data-testid="delivery-log">
            <thead>
              <tr>
                {["time", "channel", "what", "run", "outcome"].map((name) => (
                  <th scope="col" key={name}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.key} data-state={row.state}>
                  <td class="nowrap" title={formatUtc(row.created_at)}>
                    {formatDateTime(row.created_at)}
                  </td>
                  <td data-label="channel">{row.channel || "deleted"}</td>
                  <td>
                    <SeverityBadge
                      severity={row.severity}
                      state={row.what === "resolved" ? "resolved" : undefined}
                    />{" "}
                    {row.title ? <a href={`/a/${row.incident_id}`}>{row.title}</a> : "deleted"}
                  </td>
                  <td data-label="run">
                    {row.run_name ? <a href={`/r/${row.run_id}`}>{row.run_name}</a> : "deleted"}
                  </td>
                  <td class="wrap outcome">{outcomeWords(row, now.value)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
    </section>
  );
}

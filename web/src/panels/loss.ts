import { lineFigure } from "../charts/lines";
import { color, dash, label, type NamedSeries, named, type Panel } from "./panel";

export const loss: Panel<NamedSeries[]> = {
  id: "loss",
  title: "Loss",
  testId: "chart-loss",
  kinds: ["loss"],
  log: true,
  mayLog: true,
  smooths: true,
  height: 260,
  select: (source) => {
    const series = named(source, "loss");
    return series.length ? series : null;
  },
  draw: (series, context) =>
    lineFigure(
      series.map((one) => ({
        label: label(one, "loss"),
        columns: one.columns,
        color: color(context, one.color),
        dash: one.stage === "train" ? dash(one.color) : "dash",
        smooth: one.stage === "train",
      })),
      context,
      { subject: "Loss" },
    ),
  missing: "This run sends no loss yet. It is read from backward(), or from run.log(loss=…).",
};

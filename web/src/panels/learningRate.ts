import { lineFigure } from "../charts/lines";
import { baseScope, color, commandMarks, type NamedSeries, named, type Panel } from "./panel";

interface Data {
  used: NamedSeries[];
  asked: NamedSeries[];
  marks: { step: number; label: string }[];
}

/** The learning rate the optimizer used, against the one the script or its scheduler asked for. */
export const learningRate: Panel<Data> = {
  id: "lr",
  title: "Learning rate",
  unit: "used; dashed: scheduled",
  testId: "chart-lr",
  kinds: ["lr", "lr_scheduled"],
  log: true,
  mayLog: true,
  height: 260,
  select: (source) => {
    const used = named(source, "lr");
    const asked = named(source, "lr_scheduled");
    return used.length || asked.length ? { used, asked, marks: commandMarks(source) } : null;
  },
  draw: ({ used, asked, marks }, context) =>
    lineFigure(
      [
        ...asked.map((one) => ({
          label: `${name(one)} asked`.trim(),
          columns: one.columns,
          color: context.colors.secondary,
          dash: "dash" as const,
          steps: true,
        })),
        ...used.map((one) => ({
          label: `${name(one)} used`.trim(),
          columns: one.columns,
          color: color(context, one.color),
          steps: true,
        })),
      ],
      context,
      { subject: "Learning rate", verticals: marks },
    ),
  missing: "This run sends no learning rate yet.",
};

function name(series: NamedSeries): string {
  const group = series.scope.split("#")[1];
  return group ? `${baseScope(series.scope)} group ${group}` : series.scope;
}

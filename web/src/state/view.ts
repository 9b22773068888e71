import { computed } from "@preact/signals";
import { route, setSearch } from "../router";
import { formatView, parseView, type View } from "./address";

export const view = computed(() => parseView(route.value.search));

export function changeView(change: Partial<View>, push = false): void {
  setSearch(formatView({ ...view.peek(), ...change }), push);
}

export function setGroup(group: string, open: boolean): void {
  changeView({ groups: { ...view.peek().groups, [group]: open } });
}

export function setChartFlag(chart: string, name: "log" | "wide", value: boolean): void {
  const flags = view.peek().flags;
  changeView({ flags: { ...flags, [chart]: { ...flags[chart], [name]: value } } });
}

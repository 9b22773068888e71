import { computed, signal } from "@preact/signals";
import type { Palette } from "../charts/figure";

export type ThemeChoice = "system" | "light" | "dark";

const KEY = "nanwatch.theme";
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(prefersDark.matches);
prefersDark.addEventListener("change", (event) => {
  systemDark.value = event.matches;
});

function stored(): ThemeChoice {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

export const themeChoice = signal<ThemeChoice>(stored());
export const dark = computed(() =>
  themeChoice.value === "system" ? systemDark.value : themeChoice.value === "dark",
);

export function chooseTheme(choice: ThemeChoice): void {
  themeChoice.value = choice;
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

/** Colours that Plotly needs as values; the same as the tokens in tokens.css. */
const LIGHT: Palette = {
  text: "#1B1F27",
  secondary: "#4A5261",
  muted: "#636B7A",
  grid: "#E3E6EB",
  border: "#868E9C",
  surface: "#FFFFFF",
  applied: "#CBD0D8",
  series: ["#2776B5", "#D7019A", "#1E4540", "#249E0E", "#68256F", "#2104EA"],
};

const DARK: Palette = {
  text: "#E8EBF0",
  secondary: "#B4BCC9",
  muted: "#929BAA",
  grid: "#2A303A",
  border: "#6B7484",
  surface: "#171B22",
  applied: "#3D4552",
  series: ["#BDD9EF", "#BC72A7", "#83C4BB", "#A2F992", "#CD96D3", "#8C7EED"],
};

export const palette = computed(() => (dark.value ? DARK : LIGHT));

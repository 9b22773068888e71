import { signal } from "@preact/signals";

/** Where the page is; links are ordinary anchors caught by `followLinks`. */
export const route = signal({ path: location.pathname, search: location.search });

function read(): void {
  route.value = { path: location.pathname, search: location.search };
}

export function navigate(to: string): void {
  history.pushState(null, "", to);
  read();
  window.scrollTo(0, 0);
}

/** Change the query without leaving the page. `push` makes a step for the Back button. */
export function setSearch(search: string, push: boolean): void {
  if (search === location.search) return;
  const url = location.pathname + search;
  if (push) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  read();
}

export function followLinks(): void {
  window.addEventListener("popstate", read);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a[href]") as HTMLAnchorElement | null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.getAttribute("href")?.startsWith("#")) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}

import { describe, expect, it } from "vitest";
import type { Delivery, Incident, NotifyRoute } from "../src/net/types";
import { outcomeWords, routeWords } from "../src/pages/notify/words";
import { desktopText, Told } from "../src/state/news";
import { failingOf } from "../src/state/notifications";

const OPENED = 1_800_000_000;

const incident = (change: Partial<Incident> = {}) =>
  ({
    id: "i1",
    run_name: "sac-ant",
    state: "firing",
    severity: "warning",
    title: "Gradients clipped on 97 % of the last 200 steps",
    what: "The norm is 41.",
    forecast: "Overflow in 900 steps.",
    opened_at: OPENED,
    reopened: 0,
    suggestions: [{ text: "halve the LR", treats: "symptom", command: "", args: {}, copy: "" }],
    ...change,
  }) as Incident;

describe("desktop notifications", () => {
  it("tell an incident once, and again only if it is worse or back", () => {
    const told = new Told();
    const news = (change: Partial<Incident>) => told.isNews(incident(change), "warning", OPENED - 5);
    expect(news({})).toBe(true);
    expect(news({ count: 99 })).toBe(false);
    expect(news({ severity: "critical" })).toBe(true);
    expect(news({ severity: "critical", count: 100 })).toBe(false);
    expect(news({ severity: "critical", state: "resolved" })).toBe(false);
    expect(news({ severity: "critical", reopened: 1 })).toBe(true);
  });

  it("say nothing of what was there before the page, until it gets worse", () => {
    const told = new Told();
    expect(told.isNews(incident(), "warning", OPENED + 3600)).toBe(false);
    expect(told.isNews(incident({ severity: "critical" }), "warning", OPENED + 3600)).toBe(true);
  });

  it("follow the choice and what people have seen", () => {
    expect(new Told().isNews(incident(), "critical", OPENED)).toBe(false);
    expect(new Told().isNews(incident({ severity: "critical" }), "critical", OPENED)).toBe(true);
    expect(new Told().isNews(incident(), "off", OPENED)).toBe(false);
    expect(new Told().isNews(incident({ state: "acknowledged" }), "warning", OPENED)).toBe(false);
    const told = new Told();
    told.isNews(incident({ state: "snoozed" }), "warning", OPENED);
    expect(told.isNews(incident({ severity: "critical" }), "warning", OPENED)).toBe(true);
  });

  it("use the words of the page", () => {
    expect(desktopText(incident())).toEqual({
      title: "Caution: Gradients clipped on 97 % of the last 200 steps · sac-ant",
      body: "The norm is 41.\nOverflow in 900 steps.\nTry: halve the LR",
    });
    expect(desktopText(incident({ suggestions: [], forecast: "" })).body).toBe("The norm is 41.");
  });
});

const delivery = (change: Partial<Delivery> = {}) =>
  ({
    n: 1,
    channel_id: "a",
    channel: "team",
    state: "waiting",
    tries: 0,
    created_at: OPENED,
    due_at: OPENED,
    done_at: null,
    detail: "",
    ...change,
  }) as Delivery;

describe("the delivery log", () => {
  it("says what became of a message", () => {
    expect(outcomeWords(delivery(), OPENED)).toBe("◌ waiting");
    expect(outcomeWords(delivery({ state: "sent", tries: 1, done_at: OPENED }), OPENED)).toMatch(
      /^✓ sent \d\d:\d\d:\d\d$/,
    );
    const again = delivery({ tries: 3, due_at: OPENED + 60, detail: "it answered 500" });
    expect(outcomeWords(again, OPENED)).toMatch(
      /^◌ waiting, tried 3 times, next \d\d:\d\d:\d\d: it answered 500$/,
    );
    expect(outcomeWords(delivery({ state: "failed", tries: 1, detail: "x" }), OPENED)).toBe(
      "✗ failed, tried once: x",
    );
    expect(outcomeWords(delivery({ state: "merged", detail: "in the message of key" }), OPENED)).toBe(
      "✓ sent along: in the message of another incident",
    );
  });

  it("knows a channel that does not work from one that does again", () => {
    const dead = delivery({ tries: 2 });
    expect(failingOf([dead], OPENED + 60)).toEqual([dead]);
    expect(failingOf([delivery({ tries: 1 })], OPENED + 60)).toEqual([]);
    expect(failingOf([delivery({ state: "sent" }), dead], OPENED + 60)).toEqual([]);
    expect(failingOf([delivery({ state: "sent", channel_id: "b" }), dead], OPENED + 60)).toEqual([dead]);
    expect(failingOf([delivery({ state: "failed" })], OPENED + 100_000)).toEqual([]);
  });
});

describe("a route in words", () => {
  const route: NotifyRoute = {
    id: "r",
    channel_id: "a",
    project: "",
    min_severity: "warning",
    resolved: false,
    quiet: null,
    enabled: true,
    created_at: 0,
  };
  it("says what goes where and when it does not", () => {
    expect(routeWords(route)).toBe("Every project · caution and critical");
    const quiet = { start: "22:00", end: "07:00", zone: "Europe/Berlin", critical_passes: true };
    expect(
      routeWords({
        ...route,
        project: "rl",
        min_severity: "critical",
        resolved: true,
        quiet,
        enabled: false,
      }),
    ).toBe(
      "Project rl · critical only · also when it is over · quiet 22:00 to 07:00 Europe/Berlin, critical passes · off",
    );
  });
});

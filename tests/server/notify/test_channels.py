"""What arrives at real receivers, and what is said when nothing does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import asdict

import pytest

from nanwatch_server.domain.models import Run, Severity
from nanwatch_server.domain.notify import Channel
from nanwatch_server.notify import channels
from nanwatch_server.notify.message import News, compose
from tests.server.notify.kit import CAUSE, free_port, incident, mailbox, replace
from tests.server.wire import RUN

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
RUN_OF = Run(id=RUN, project="rl", name="sac", created_at=1.0, started_at=1.0)


def link(path):
    return f"https://nan.example{path}"


def message(**cause):
    made = incident(Severity.CRITICAL, diagnosis=replace(CAUSE, **cause))
    return compose([News(made, RUN_OF)], link, 1_800_000_000.0)


def channel(url):
    return Channel(
        id="c", name="c", url=url, shown="", service="s", created_at=0.0, secret=KEY
    )  # fmt: skip


def test_our_own_webhook_is_signed_versioned_json(couriers, hook):
    assert couriers.send(channel(hook.url), "i1|critical|0|c", message()).ok
    [got] = hook.got
    assert got.method == "POST" and got.path == "/hook/s3cr3t-path"
    assert got.headers["Content-Type"] == "application/json"
    signed = f"{got.id}.{got.headers['Webhook-Timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert got.headers["Webhook-Signature"] == f"v1,{expected}"
    body = got.json
    assert (body["version"], body["id"], body["event"]) == (1, got.id, "incident.firing")
    assert body["incident"]["title"] == CAUSE.title
    assert body["text"].startswith("Critical: Gradients double every 40 steps · sac\nRun: sac")
    assert abs(body["sent_at"] - time.time()) < 60


def test_services_of_apprise_with_a_host_of_their_own(couriers, hook):
    for url in (
        f"json://127.0.0.1:{hook.port}/x",
        f"gotify://127.0.0.1:{hook.port}/Abcdefgh1234567",
        f"ntfy://127.0.0.1:{hook.port}/nan",
        f"mmost://127.0.0.1:{hook.port}/abcdefghijklmnopqrstuvwx",
    ):
        hook.got.clear()
        assert couriers.check(url).error == ""
        assert couriers.send(channel(url), "k", message()).ok, url
        [got] = hook.got
        text = got.body.decode()
        assert "Gradients double every 40 steps" in text, url
        assert "https://nan.example/a/i1" in text.replace("\\/", "/"), url


def test_mail(couriers):
    with mailbox() as (box, port):
        url = f"mailto://127.0.0.1:{port}?from=watch@nan.example&to=ada@nan.example&mode=insecure"
        evil = message(title="a\r\nBcc: eve@nan.example", what="<b>x</b> @all")
        assert couriers.send(channel(url), "k", evil).ok
        [mail] = box.got
    assert mail["To"] == "ada@nan.example" and mail["Bcc"] is None
    assert mail["Subject"].startswith("Critical: a Bcc: eve@") and "\n" not in mail["Subject"]
    text = mail.get_body(("plain",)).get_content()
    assert "What: <b>x</b> @\u200ball" in text
    assert "Open: https://nan.example/a/i1" in text
    assert mail.get_body(("html",)) is None, "a name can be no markup where there is none"


def hosted(url, plugin, attribute, address, evil):
    """Send by the real plugin of a hosted service whose address is ours instead."""
    script = f"""
        import json, sys
        from nanwatch_server.notify.courier import Courier
        one = Courier(allow_local=True)
        from apprise.manager_plugins import NotificationManager
        setattr(NotificationManager()[{plugin!r}], {attribute!r}, {address!r})
        print(json.dumps(one.do(json.load(sys.stdin))))
    """
    job = {"op": "send", "url": url, "secret": "", "key": "k"}
    made = message(title=evil, what=evil)
    sent = asdict(made)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        input=json.dumps(job | {"message": sent}),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


EVIL = "@everyone <!channel> <@U01> [x](https://evil.example) *b* a_b_c"


def test_slack_gets_no_mention_and_no_foreign_link(hook):
    address = f"http://127.0.0.1:{hook.port}"
    url = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert hosted(url, "slack", "webhook_url", address, EVIL)["ok"]
    text = hook.got[0].body.decode()
    assert "a_b_c" in text.replace("\\\\", "").replace("\u200b", "") or "a\\\\_b" in text
    assert "<!" not in text and "<@" not in text and "evil.example|" not in text
    assert "https://evil" not in text and "<https://nan.example/a/i1|Open>" in text


def test_discord_gets_no_mention_and_no_foreign_link(hook):
    address = f"http://127.0.0.1:{hook.port}"
    url = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
    assert hosted(url, "discord", "notify_url", address, EVIL)["ok"]
    body = hook.got[0].json
    text = json.dumps(body, ensure_ascii=False)
    assert "@everyone" not in text and "<@U01>" not in text and "https://evil" not in text
    assert "https://nan.example/a/i1" in text
    assert r"\\*b\\* a\\_b\\_c" in text and "👉" not in text, "nobody is pinged"
    assert body["content"].startswith(r"Critical: @​everyone \<!channel\>")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_what_a_service_answers_is_said_and_nothing_secret(couriers, hook, status):
    secret = "Sup3rS3cretT0kenValue"
    for url in (
        f"http://ada:{secret}@127.0.0.1:{hook.port}/{secret}/x?key={secret}",
        f"json://ada:{secret}@127.0.0.1:{hook.port}/{secret}/x",
    ):
        hook.answers[:] = [status]
        done = couriers.send(channel(url), "k", message())
        assert not done.ok and done.error and secret not in done.error
        if url.startswith("http"):
            assert f"it answered {status}" in done.error


def test_a_service_may_ask_to_be_left_alone(couriers, hook):
    hook.answers[:], hook.headers["Retry-After"] = [429, 503, 500], "120"
    waits = [couriers.send(channel(hook.url), "k", message()).retry_after_s for _ in range(3)]
    assert waits == [120.0, 120.0, 0.0]


def test_nobody_listens(couriers):
    port = free_port()
    for url in (f"http://127.0.0.1:{port}/s3cr3t", f"json://127.0.0.1:{port}/s3cr3t"):
        done = couriers.send(channel(url), "k", message())
        assert not done.ok and "refused" in done.error and "s3cr3t" not in done.error
    done = couriers.send(channel("http://nowhere.invalid/s3cr3t"), "k", message())
    assert not done.ok and "s3cr3t" not in done.error


def test_a_service_that_never_answers_costs_a_bounded_time(hook, monkeypatch):
    """Also one that trickles, which no time-out of a socket catches."""
    monkeypatch.setattr(channels, "ANSWER_S", 1.0)
    made = channels.Couriers(allow_local=True)
    try:
        assert made.send(channel(hook.url), "k", message()).ok  # it is up
        hook.hold.clear()
        began = time.monotonic()
        done = made.send(channel(hook.url), "k", message())
        assert not done.ok and "within 1 s" in done.error
        assert time.monotonic() - began < 5
        hook.hold.set()
        assert made.send(channel(hook.url), "k", message()).ok, "another process took over"
    finally:
        made.close()


def test_closing_ends_every_process_at_once(hook):
    made = channels.Couriers(allow_local=True)
    hook.hold.clear()
    outcomes = []
    threads = [
        threading.Thread(
            target=lambda: outcomes.append(made.send(channel(hook.url), "k", message()))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while len(hook.got) < 2:
        time.sleep(0.05)
    processes = [one._process for one in made._all]
    assert len(processes) == 2
    began = time.monotonic()
    made.close()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - began < 3
    assert [one.ok for one in outcomes] == [False, False]
    assert all(one.poll() is not None for one in processes)
    assert not made.send(channel(hook.url), "k", message()).ok


def test_idle_processes_end(hook, monkeypatch):
    made = channels.Couriers(allow_local=True)
    try:
        assert made.send(channel(hook.url), "k", message()).ok
        [courier] = made._all
        made.trim()
        assert courier._process.poll() is None
        monkeypatch.setattr(channels, "IDLE_S", 0.0)
        made.trim()
        assert courier._process.poll() is not None and not made._all
    finally:
        made.close()


def test_what_addresses_are_called_and_how_they_are_shown(couriers):
    for url, service, shown in [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "Slack", "slack://…"),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "Slack",
         "slack://…"),
        ("https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "Discord",
         "discord://…"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "Telegram", "tgram://…"),
        ("ntfy://my-secret-topic", "ntfy", "ntfy://…"),
        ("mailto://ada:password@gmail.com", "E-Mail", "mailto://gmail.com/…"),
        ("pagerduty://A1BRTD4JDTIiajkdnlazkcOXrIdevi7FQ@AABBCC", "Pager Duty", "pagerduty://…"),
        ("workflows://prod.example.azure.com:443/643e69f83c8944/KPUeXcZVjc",
         "Power Automate / Workflows (for MSTeams)", "workflows://…"),
        ("https://ci.example.com/hooks/1?token=2", "Signed webhook", "https://ci.example.com/…"),
    ]:  # fmt: skip
        found = couriers.check(url)
        assert (found.error, found.service, found.shown) == ("", service, shown)
    wrong = couriers.check("workflows://a.example.com/643e69f83c8944/KPUeXcZVjc?route=s3cr3t_1")
    assert "workflows://" in wrong.error and "s3cr3t_1" not in wrong.error

"""Messages go to the public internet only, whatever an address looks like or turns into."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap

import pytest

from nanwatch_server.domain.notify import Channel
from nanwatch_server.notify import services
from nanwatch_server.notify.guard import LOCAL_SETTING, host_trouble, trouble
from nanwatch_server.notify.message import sample
from tests.server.notify.kit import receiver

MESSAGE = sample(lambda path: f"https://nan.example{path}", 0.0)
KEY = "whsec_" + "A" * 44


def channel(url):
    return Channel(
        id="c", name="c", url=url, shown="", service="s", created_at=0.0, secret=KEY
    )  # fmt: skip


LOCAL = ["127.0.0.1", "127.9.9.9", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
         "fc00::1", "fd12::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1",
         "2002:7f00:1::", "198.18.0.1"]  # fmt: skip
NEVER = ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
         "100.100.100.200", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "0.0.0.0", "::",
         "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "168.63.129.16", "localhost",
         "evil.example", ""]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::1.1.1.1",
          "::ffff:1.1.1.1"]  # fmt: skip


@pytest.mark.parametrize("address", LOCAL)
def test_local_addresses_need_the_setting(address):
    assert LOCAL_SETTING in trouble(address, allow_local=False)
    assert trouble(address, allow_local=True) == ""


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_sent_to(address):
    for allowed in (False, True):
        assert trouble(address, allow_local=allowed)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address):
    assert trouble(address, allow_local=False) == ""


def test_one_private_address_of_a_name_is_enough_to_refuse_it():
    def resolve(*names):
        return lambda *_, **__: [(0, 0, 0, "", (name, 0)) for name in names]

    said = host_trouble("a.example", allow_local=False, resolve=resolve("1.1.1.1", "10.0.0.7"))
    assert "a.example stands for 10.0.0.7" in said
    assert host_trouble("a.example", allow_local=False, resolve=resolve("1.1.1.1")) == ""


FORMS = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001",
         "0177.0.0.1", "127.1", "0"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_local_address_gets_a_connection(strict, hook, form):
    """Neither when the channel is made nor when one that exists already is sent to."""
    for url in (f"http://{form}:{hook.port}/x", f"json://{form}:{hook.port}/x"):
        assert strict.check(url).error
        sent = strict.send(channel(url), "k", MESSAGE)
        assert not sent.ok and sent.error
    assert hook.got == []


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:{port}/x",
        "form://localhost:{port}/x",
        "xml://localhost:{port}",
        "gotify://localhost:{port}/Abcdefgh1234567",
        "ntfy://localhost:{port}/topic",
        "mmost://localhost:{port}/abcdefghijklmnopqrstuvwx",
        "mailto://localhost:{port}?from=a@nan.example&to=b@nan.example&mode=insecure",
        "mailto://ada:secret@nan.example?smtp=localhost&port={port}&mode=insecure",
        "workflows://localhost:{port}/abcdefghijk/lmnopqrstuv",
    ],
)
def test_every_service_with_a_host_of_its_own_is_held_back(strict, hook, url):
    sent = strict.send(channel(url.format(port=hook.port)), "k", MESSAGE)
    assert LOCAL_SETTING in sent.error and hook.got == []


def test_the_error_says_what_to_do(strict, hook):
    sent = strict.send(channel(f"ntfy://127.0.0.1:{hook.port}/topic"), "k", MESSAGE)
    assert "ntfy or mail on your own network" in sent.error
    assert f"{LOCAL_SETTING}=1" in sent.error


def test_metadata_is_refused_even_where_local_targets_are_allowed(couriers):
    for url in ("http://169.254.169.254/latest/meta-data/", "json://100.100.100.200/x"):
        assert "metadata" in couriers.check(url).error
        assert "metadata" in couriers.send(channel(url), "k", MESSAGE).error


def test_redirects_are_not_followed(couriers, hook):
    with receiver() as other:
        hook.headers["Location"] = other.url
        for url in (hook.url, f"json://127.0.0.1:{hook.port}/x"):
            for status in (301, 302, 307, 308):
                hook.answers.append(status)
                sent = couriers.send(channel(url), "k", MESSAGE)
                assert not sent.ok
                if url == hook.url:
                    assert f"it answered {status}: redirects are not followed" in sent.error
        assert len(hook.got) == 8 and other.got == []


def courier(script, allow_local=False):
    """A courier whose process was tampered with as `script` says; answers to its jobs."""
    text = f"""
        import json, socket, sys
        jobs = json.load(sys.stdin)
        real = socket.getaddrinfo
        {textwrap.indent(textwrap.dedent(script), " " * 8).strip()}
        from nanwatch_server.notify.courier import Courier
        one = Courier(allow_local={allow_local})
        print(json.dumps([one.do(job) for job in jobs]))
    """
    return textwrap.dedent(text)


def test_a_name_that_changes_its_mind_gets_nothing(hook):
    """Public while it is checked, this machine when it is connected to."""
    url = f"http://rebind.example:{hook.port}/x"
    script = courier(
        """
        seen = []
        def resolve(host, *more, **options):
            if host != "rebind.example":
                return real(host, *more, **options)
            seen.append(host)
            return real("1.1.1.1" if len(seen) == 1 else "127.0.0.1", *more, **options)
        socket.getaddrinfo = resolve
        """
    )
    message = {
        "title": "t",
        "marked_title": "t",
        "plain": "p",
        "markdown": "m",
        "level": "info",
        "data": {},
    }
    jobs = [{"op": "check", "url": url}]
    for scheme in ("http", "json"):
        send = {"op": "send", "url": url.replace("http", scheme), "secret": KEY, "key": "k"}
        jobs.append(send | {"message": message})
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=True,
    )
    checked, *sent = json.loads(done.stdout)
    assert checked["ok"], "the trick works on who only looks once"
    for one in sent:
        assert not one["ok"] and "127.0.0.1 is an address of this machine" in one["error"]
    assert hook.got == []


def test_a_courier_starts_no_program_and_sends_no_datagram():
    script = courier(
        """
        import os, subprocess
        from nanwatch_server.notify.guard import Guard
        Guard(allow_local=True).install()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for act in (
            lambda: subprocess.run(["true"]),
            lambda: os.system("true"),
            lambda: udp.sendto(b"x", ("127.0.0.1", 9)),
            lambda: socket.socket(socket.AF_UNIX).connect("/nowhere"),
        ):
            try:
                act()
            except OSError as error:
                print(type(error).__name__, file=sys.stderr)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input="[]", capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == ["RefusedError"] * 4


def test_proxies_and_netrc_of_the_environment_do_not_matter(hook, monkeypatch, tmp_path):
    from nanwatch_server.notify.channels import Couriers

    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password hunter22")
    (tmp_path / ".netrc").chmod(0o600)
    with receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        couriers = Couriers(allow_local=True)
        try:
            for url in (hook.url, f"json://127.0.0.1:{hook.port}/x"):
                assert couriers.send(channel(url), "k", MESSAGE).ok
        finally:
            couriers.close()
        assert len(hook.got) == 2 and proxy.got == []
        assert not any("Authorization" in one.headers for one in hook.got)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "visible characters"),
        ("x" * 3000, "visible characters"),
        ("json://a b", "visible characters"),
        ("json://a\n", "visible characters"),
        ("ftp://example.com", "expected https://"),
        ("dbus://", "expected https://"),
        ("syslog://x", "expected https://"),
        ("file:///etc/passwd", "expected https://"),
        ("mqtt://host/topic", "expected https://"),
        ("hooks.example.com/x", "expected https://"),
        ("slack://x?template=/etc/passwd", "template="),
        ("mailto://a:b@c.de?pgppub=/etc/passwd", "pgppub="),
        ("json://c.de?redirect=yes", "redirect="),
        ("json://c.de?optional=yes", "optional="),
        ("ntfy://c.de/t?attach=/etc/passwd", "attach="),
    ],
)
def test_addresses_that_cannot_be(url, said):
    assert said in services.url_trouble(url)


def test_the_loopback_name_is_really_resolved():
    """What the tests above stand on: these forms do lead to this machine."""
    for form in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1"):
        assert socket.getaddrinfo(form, 80)[0][4][0] == "127.0.0.1"

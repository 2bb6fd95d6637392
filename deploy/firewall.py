"""Firewall lines for the keeper to read, and to enter if they fit. Pure; nothing runs them."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from deploy.fleet import Fleet


class Rule(NamedTuple):
    """``source``: an address, a host's name (which no firewall knows), or "" for everybody."""

    port: int
    source: str
    why: str


def rules(fleet: Fleet, sshd_port: int) -> tuple[Rule, ...]:
    """What must come in at the primary; a worker needs nothing but the keeper's SSH."""
    host = fleet.primary
    role = host.primary
    assert role is not None
    found = [
        Rule(sshd_port, worker.address, f"worker {worker.worker_name}")
        for worker in fleet.workers
        if worker.name != host.name
    ]
    if role.nginx:
        if role.tls:
            found.append(Rule(443, "", "browsers and clients"))
        found.append(Rule(80, "", "led to 443" if role.tls else "browsers and clients"))
    elif not _is_loopback(role.listen):
        found.append(Rule(int(role.listen.rpartition(":")[2]), "", "browsers and clients"))
    return tuple(found)


def lines(fleet: Fleet, sshd_port: int) -> tuple[str, ...]:
    """For ufw, and for nftables' table ``inet filter`` with its chain ``input``, as Debian has."""
    name, wanted = fleet.primary.name, rules(fleet, sshd_port)
    said = [
        f"# On {name}, if it has a firewall. You yourself come in by SSH, port {sshd_port}: "
        "keep that open for you.",
        "# with ufw:",
        *(_ufw(rule) for rule in wanted),
        "# or with nftables:",
        *(_nft(rule) for rule in wanted),
        "# The workers need nothing open but SSH for you: they call the primary.",
    ]
    unknown = sorted({rule.source for rule in wanted if rule.source and not _is_ip(rule.source)})
    if unknown:
        said.append(
            f"# {', '.join(unknown)}: put the addresses in their place, as {name} sees them."
        )
    return tuple(said)


def _ufw(rule: Rule) -> str:
    source = _source(rule)
    return f"ufw allow proto tcp from {source} to any port {rule.port} comment '{rule.why}'"


def _nft(rule: Rule) -> str:
    family = "ip6" if ":" in rule.source else "ip"
    source = f"{family} saddr {_source(rule)} " if rule.source else ""
    return f"nft add rule inet filter input {source}tcp dport {rule.port} accept  # {rule.why}"


def _source(rule: Rule) -> str:
    if not rule.source:
        return "any"
    return rule.source if _is_ip(rule.source) else f"<address of {rule.source}>"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)

"""DNS messages about a zone, with dnspython: a query's bytes in, an answer's bytes out. Pure but for the order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mininetes.agents.dns.zone import Record, Zone

TTL_S = 30
NEGATIVE_TTL_S = 30
UDP_LIMIT = 512
EDNS_LIMIT = 1232
"""Answers beyond this are truncated over UDP whatever the client offers, as they would be fragmented."""

MOST = 65535

Outside = Literal["REFUSED", "SERVFAIL"]


def reply(zone: Zone | None, wire: bytes, *, udp: bool, outside: Outside = "REFUSED") -> bytes | None:
    """The answer to a message, None when there is to be none. ``zone`` None: not known yet (SERVFAIL).

    Names of other domains get ``outside``: there is nobody to ask, as nothing leaves the lab.
    Never raises for what came in.
    """
    try:
        query = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.message.UnknownHeaderField:
        return None
    except dns.exception.DNSException:
        return _format_error(wire)
    if query.flags & dns.flags.QR:
        return None
    answer = dns.message.make_response(query, our_payload=EDNS_LIMIT)
    limit = MOST
    if udp:
        limit = max(UDP_LIMIT, min(query.payload, EDNS_LIMIT)) if query.edns >= 0 else UDP_LIMIT
    if query.opcode() != dns.opcode.QUERY:
        answer.set_rcode(dns.rcode.NOTIMP)
    elif len(query.question) != 1:
        answer.set_rcode(dns.rcode.FORMERR)
    elif query.edns > 0:
        answer.set_rcode(dns.rcode.BADVERS)
    elif zone is None:
        answer.set_rcode(dns.rcode.SERVFAIL)
    else:
        _fill(zone, answer, outside)
    return _fitted(answer, limit)


def _fitted(answer: dns.message.Message, limit: int) -> bytes:
    """The message in at most ``limit`` bytes: with as many records as fit, and the mark that some do not."""
    try:
        return answer.to_wire(max_size=limit)
    except dns.exception.TooBig:
        answer.flags |= dns.flags.TC
        answer.additional.clear()
    while answer.answer:
        last = answer.answer[-1]
        kept = list(last)[: len(last) * 3 // 4]
        answer.answer.pop()
        if kept:
            answer.answer.append(dns.rrset.from_rdata_list(last.name, last.ttl, kept))
        try:
            return answer.to_wire(max_size=limit)
        except dns.exception.TooBig:
            continue
    return answer.to_wire(max_size=limit, prefer_truncation=True)


def _fill(zone: Zone, answer: dns.message.Message, outside: Outside) -> None:
    question = answer.question[0]
    if question.rdclass not in (dns.rdataclass.IN, dns.rdataclass.ANY):
        answer.set_rcode(dns.rcode.REFUSED)
        return
    kind = dns.rdatatype.to_text(question.rdtype)
    found = zone.answer(question.name.to_text(omit_final_dot=True), kind)
    if found.result == "elsewhere":
        answer.set_rcode(dns.rcode.from_text(outside))
        return
    answer.flags |= dns.flags.AA
    if found.result == "found":
        _put(zone, answer.answer, found.records)
        _put(zone, answer.additional, found.additional)
        return
    if found.result == "no name":
        answer.set_rcode(dns.rcode.NXDOMAIN)
    answer.authority.append(_soa(zone, question.name))


def _put(zone: Zone, section: list[dns.rrset.RRset], records: Sequence[Record]) -> None:
    """Records as sets, those of a set in any order: clients that take the first share the load."""
    sets: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        sets.setdefault((record.name, record.kind), []).append(record)
    for (name, kind), members in sets.items():
        owner = dns.name.from_text(name)
        if kind == "SOA":
            section.append(_soa(zone, owner))
            continue
        random.shuffle(members)
        rrset = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
        for member in members:
            rrset.add(_rdata(member), TTL_S)
        section.append(rrset)


def _rdata(record: Record) -> dns.rdata.Rdata:
    text = f'"{record.data}"' if record.kind == "TXT" else record.data
    return dns.rdata.from_text("IN", record.kind, text, origin=dns.name.root, relativize=False)


def _soa(zone: Zone, name: dns.name.Name) -> dns.rrset.RRset:
    """The start of authority: of the cluster's domain, or of the reverse tree that the name is in."""
    domain = dns.name.from_text(zone.domain)
    if not name.is_subdomain(domain):
        tree = "ip6.arpa" if name.is_subdomain(dns.name.from_text("ip6.arpa")) else "in-addr.arpa"
        owner = dns.name.from_text(tree)
    else:
        owner = domain
    text = f"ns.dns.{zone.domain}. hostmaster.{zone.domain}. 1 7200 1800 86400 {NEGATIVE_TTL_S}"
    return dns.rrset.from_text(owner, NEGATIVE_TTL_S, "IN", "SOA", text)


def _format_error(wire: bytes) -> bytes | None:
    """FORMERR with the header alone, when there is a header and it is a query's."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    answer = dns.message.Message(id=int.from_bytes(wire[:2], "big"))
    answer.flags |= dns.flags.QR
    answer.set_rcode(dns.rcode.FORMERR)
    return answer.to_wire()

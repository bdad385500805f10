"""Probes: packets from scapy, senders in the pods' namespaces, the built-in responder, matrices and percentiles.

Start here: `vantage` (who probes whom), `sender.Prober` (sends), `outcomes` (what was seen),
`responder_client.Responder` (what answers in pods), `matrix` and `latency` (what to make of it).
"""

"""kube-proxy: watches services and endpoints, and keeps one node's rules as a proxy mode writes them.

services.py          Service and EndpointSlice objects -> ServicePort and Endpoint
endpoint_choice.py   which endpoints a service port uses on a node: the one place for it
view.py              what a proxy mode is told: the node, the settings, the ports with their endpoints
rulesets.py          what a proxy mode answers: tables and chains, maps, virtual servers, listeners
proxy_rules/*.py     the proxy modes themselves, pure functions from view to ruleset
*_applier.py         a ruleset into the kernel, whole or as the difference to the one before
agent.py             the agent of a node
"""

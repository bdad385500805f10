"""The lab: a sandbox of namespaces that everything runs in, and that the kernel takes away whole.

launcher (host) --lifeline--> unshare --> init (PID 1) --> engine, node holders
state folder (host): lock, lab.json, log, control socket
"""

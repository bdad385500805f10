"""The CNI runtime of a node: configurations, plugins, results. CNI specification 1.1.0, as libcni does it."""

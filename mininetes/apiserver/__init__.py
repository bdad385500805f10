"""The Kubernetes API: kinds, validation, patches and documents; the store; the server and its client."""

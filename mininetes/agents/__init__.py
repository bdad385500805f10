"""What runs on behalf of a node: for now the CNI runtime that the kubelet calls."""

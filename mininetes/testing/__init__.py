"""Testing one's own CNI plugin, proxy or application on an emulated cluster, with pytest (see docs/testing-your-own.md)."""

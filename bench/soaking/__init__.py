"""The live soak: Grafana replicas as processes, a run beside them, forced misses, and the checks afterwards."""

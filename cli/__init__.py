"""The operator's command `grafana-reencrypt`, and the demo: what people run, on top of a deployed stack or of the local AWS."""

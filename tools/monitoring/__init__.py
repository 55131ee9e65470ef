"""What watches Muster: Prometheus rules and Grafana dashboards, made from code into `deploy/`."""

"""The parts of the simulator (bench/simulate.py): Grafana's side, the scheduler, the run, the checks and the planted bugs."""

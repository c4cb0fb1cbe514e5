"""What is measured: ratios of one run, kills and outages, the params of docs/results."""

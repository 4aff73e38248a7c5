"""Studies: runs and measurements that build on each other, over seeds, from one YAML file."""

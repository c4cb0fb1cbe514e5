"""A campaign of faults, each kind of fault a module: what segops makes of kills, full disks, pairs and bad inputs."""

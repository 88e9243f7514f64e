"""magalu-migrate: Linux VMs from VMware, Azure, AWS or a file, repaired and proven, into Magalu Cloud."""

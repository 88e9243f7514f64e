"""Many VMs, days long: a file that says which, runs that survive what happens, and what is known of each at any time."""

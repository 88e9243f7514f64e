"""Where disks come from and where images go: one module a source or target, none sees another."""

"""Values and decisions, pure: no clock, no chance, no environment, no I/O."""

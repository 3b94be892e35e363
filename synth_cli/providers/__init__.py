"""One file per wire protocol, and the limits, prices and hosts."""

"""The simulated model and its HTTP server."""

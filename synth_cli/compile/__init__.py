"""Spec → Plan → Requests."""

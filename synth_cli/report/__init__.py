"""Figures from the ledger, and how people and programs read them."""

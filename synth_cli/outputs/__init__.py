"""Rows → files, published whole or not at all."""

"""How requests are answered: now, in an hour, or in three days."""

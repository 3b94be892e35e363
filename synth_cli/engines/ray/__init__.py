"""Workers as actors of Ray: its scheduling, its placement groups and its notice of what died, none of ours."""

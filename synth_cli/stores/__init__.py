"""What survives the process: the ledger, the state folder, the run's worksheet."""

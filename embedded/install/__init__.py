"""Set-up (`make setup`): standard library only, because it runs before anything is installed."""

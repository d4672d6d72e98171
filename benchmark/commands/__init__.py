"""One thin file a command; heavy imports happen inside the functions."""

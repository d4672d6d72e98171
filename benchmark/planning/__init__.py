"""What is to be done: cells, suites, recipes, plans."""

"""One cell from start to finish."""

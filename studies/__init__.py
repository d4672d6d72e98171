"""The notebook: a study is a suite with holes, ranges where values would stand."""

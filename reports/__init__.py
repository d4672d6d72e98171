"""The findings: from a frame of finished cells to tables, figures and one page.

Everything here is a pure function of a frame and of the published numbers, which
`reports.printed` reads; only `reports.build` writes to the disk.
"""

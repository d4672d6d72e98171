"""The findings: from a frame of finished cells to tables, figures and one page.

Everything here is a pure function of a frame; only `reports.build` touches the disk.
"""

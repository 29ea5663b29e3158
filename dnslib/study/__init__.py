"""The study as a whole: which notebooks there are, with what parameters, in what order, what has changed, the report.

``notebooks`` reads them, ``parameters`` checks values before a kernel starts, ``state`` knows what is up to date,
``runner`` executes through papermill, ``provenance`` and ``report`` write down what came out.
"""

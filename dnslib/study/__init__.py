"""The study as a whole: which notebooks there are, with what parameters, in what order, what has changed, the report.

``notebooks`` reads them, ``parameters`` checks values before a kernel starts, ``state`` knows what is up to date,
``ranges`` what the parameters of single notebooks may be; ``runner`` executes through papermill, ``console`` shows its
progress, ``provenance`` and ``report`` (with ``page``) write down what came out. ``publish`` puts a run into the
project, ``readme`` and ``card`` write the tables of its texts, by ``markdown``.
"""

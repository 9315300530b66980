"""How good a model is on held-out subjects, and what it has learnt.

evaluate     the command: score all pairs of a folder, write a report
scores       arrays in, numbers out
report       the files of a report
report_page  its HTML page
sheet        contact sheets
inspect      the command: draw a model
maps         what a model has learnt, as arrays
plots        the same as figures
"""

"""The published benchmark: ``benchmarks/README.md`` and its figures, made from the packed results beside it.

python -m benchmarks.publish                     # regenerate the page and all figures
python -m benchmarks.publish pack FOLDER NAME    # a results folder into benchmarks/results/NAME.jsonl.xz
"""

"""Rows summed up so that merging is the addition of whole numbers: the same rows give the same bytes, in any order.

numpy and pyarrow stand at the top of these modules: import them inside a function.
"""

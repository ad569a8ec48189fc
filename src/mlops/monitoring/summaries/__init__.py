"""Rows summed up so that merging is the addition of whole numbers: the same rows give the same bytes, in any order.

`reference.plan_of` reads the reference once and says how columns are summed up (`plans.Plan`);
`summarising.summarise` reads rows once and gives a `windowed.WindowSummary` for each window; `windowed.merge` puts
those of several files together; `storing` turns both into bytes. Of a column there is a `NumericSummary`, a
`CategoricalSummary` or an `OpaqueSummary`.

numpy and pyarrow stand at the top of these modules: import them inside a function.
"""
